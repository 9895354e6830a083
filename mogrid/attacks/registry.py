"""Attacks by name, for configurations and the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from mogrid.attacks.base import Attack
from mogrid.attacks.hotflip import HotFlip, QueryHotFlip
from mogrid.attacks.misspellings import Misspellings
from mogrid.attacks.neighbours import EmbeddingNeighbourFlips
from mogrid.attacks.poisoning import CorpusPoisoning
from mogrid.attacks.stuffing import QueryStuffing
from mogrid.attacks.typos import Typos
from mogrid.construct import construct, named
from mogrid.data.domain import Role
from mogrid.errors import ConfigError

__all__ = ["ATTACKS", "attack_for", "attack_from_config", "attack_name", "register_attack"]

ATTACKS: dict[str, tuple[str, type[Attack] | type[CorpusPoisoning], str]] = {
    "typos": ("queries", Typos, "swapped, dropped, doubled and neighbouring keys"),
    "misspellings": ("queries", Misspellings, "what people really misspell, from codespell's list"),
    "query_hotflip": ("queries", QueryHotFlip, "words to any others, so that the relevant document is lost"),
    "query_stuffing": ("documents", QueryStuffing, "the query's words put into the document"),
    "embedding_neighbour_flips": (
        "documents",
        EmbeddingNeighbourFlips,
        "words to near ones of the victim",
    ),
    "hotflip": ("documents", HotFlip, "words to any others, by gradients"),
    "corpus_poisoning": ("corpus", CorpusPoisoning, "passages that many unseen queries retrieve"),
}
"""Name → what it attacks, its class, one line."""


def register_attack(name: str, over: Literal["queries", "documents"], attack: type[Attack], summary: str = "") -> None:
    """Let configurations and the command line name an attack of your own.

    Parameters
    ----------
    name : str
        What configurations and the command line call it.
    over : "queries" or "documents"
        What it perturbs.
    attack : subclass of Attack
        Its constructor's parameters are its settings, ``role`` among them.
    summary : str
        One line, for lists.

    Raises
    ------
    ConfigError
        The name is taken.
    """
    if name in ATTACKS:
        raise ConfigError(f"an attack {name!r} is there already")
    ATTACKS[name] = (over, attack, summary)


def attack_from_config(config: str | Mapping[str, Any]) -> Attack | CorpusPoisoning:
    """Return an attack from its name, in any spelling, or ``{name: typos, kinds: [keyboard], rate: 0.3, role: test}``.

    Raises
    ------
    ConfigError
        An unknown attack, setting or role (the nearest is named), a missing setting, or a value out of range.
    """
    return construct(_makers(), config, what="attack")


def attack_for(config: str | Mapping[str, Any], role: Role) -> Attack:
    """Return an attack in a role; ``typos`` are of the role's own kinds where none are named.

    Raises
    ------
    ConfigError
        As `attack_from_config`; or the configuration names another role.
    """
    name, settings = named(_makers(), config, what="attack")
    if str(settings.get("role", role)) != role:
        raise ConfigError(f"attack {name!r} has the role {settings['role']}, and one of role {role} is needed")
    attack: Any = attack_from_config({"name": name, **settings, "role": str(role)})
    return attack


def attack_name(config: str | Mapping[str, Any], over: str = "queries") -> str:
    """Return an attack's name as `ATTACKS` spells it. Raises `ConfigError` where it does not perturb what it should."""
    able = {name: entry[1] for name, entry in ATTACKS.items() if entry[0] == over}
    return named(able, config, what=f"attack on {over}")[0]


def _makers() -> dict[str, Callable[..., Attack | CorpusPoisoning]]:
    return {name: entry[1] for name, entry in ATTACKS.items()}

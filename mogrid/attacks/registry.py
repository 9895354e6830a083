"""Attacks by name, for configurations and the command line."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

from mogrid.attacks.base import Attack
from mogrid.attacks.hotflip import HotFlip
from mogrid.attacks.misspellings import Misspellings
from mogrid.attacks.neighbours import EmbeddingNeighbourFlips
from mogrid.attacks.poisoning import CorpusPoisoning
from mogrid.attacks.stuffing import QueryStuffing
from mogrid.attacks.typos import Typos
from mogrid.data.domain import Role
from mogrid.errors import ConfigError, nearest

__all__ = ["ATTACKS", "attack_from_config", "register_attack"]

ATTACKS: dict[str, tuple[str, type[Attack] | type[CorpusPoisoning], str]] = {
    "typos": ("queries", Typos, "swapped, dropped, doubled and neighbouring keys"),
    "misspellings": ("queries", Misspellings, "what people really misspell, from codespell's list"),
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
    over : "queries" or "documents"
        What it perturbs.
    attack : subclass of Attack
        Its constructor's parameters are its settings, ``role`` among them.
    summary : str

    Raises
    ------
    ConfigError
        The name is taken.
    """
    if name in ATTACKS:
        raise ConfigError(f"an attack {name!r} is there already")
    ATTACKS[name] = (over, attack, summary)


def attack_from_config(config: str | Mapping[str, Any]) -> Attack | CorpusPoisoning:
    """Return an attack from its name, or ``{name: typos, kinds: [keyboard], rate: 0.3, role: test}``.

    Raises
    ------
    ConfigError
        An unknown attack, setting or role (the nearest is named), a missing setting, or a value out of range.
    """
    given = {"name": config} if isinstance(config, str) else dict(config)
    name = given.pop("name", None)
    if name not in ATTACKS:
        raise ConfigError(f"unknown attack {name!r}{nearest(str(name), ATTACKS)}")
    kind: Any = ATTACKS[name][1]
    known = inspect.signature(kind).parameters
    for key in given:
        if key not in known:
            raise ConfigError(f"attack {name!r} has no setting {key!r}{nearest(key, known)}")
    missing = [key for key, p in known.items() if p.default is p.empty and key not in given]
    if missing:
        raise ConfigError(f"attack {name!r} needs {', '.join(missing)}")
    if "role" in given:
        roles = [str(role) for role in Role]
        if str(given["role"]) not in roles:
            raise ConfigError(f"attack {name!r}: unknown role {given['role']!r}{nearest(str(given['role']), roles)}")
        given["role"] = Role(str(given["role"]))
    try:
        made: Attack | CorpusPoisoning = kind(**given)
    except TypeError as error:
        raise ConfigError(f"attack {name!r}: a setting has the wrong type ({error})") from error
    return made

"""Attacks by name, for configurations and the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from mogrid.attacks.base import Attack
from mogrid.attacks.hotflip import HotFlip
from mogrid.attacks.misspellings import Misspellings
from mogrid.attacks.neighbours import EmbeddingNeighbourFlips
from mogrid.attacks.poisoning import CorpusPoisoning
from mogrid.attacks.stuffing import QueryStuffing
from mogrid.attacks.typos import Typos
from mogrid.construct import construct
from mogrid.errors import ConfigError

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
    """Return an attack from its name, in any spelling, or ``{name: typos, kinds: [keyboard], rate: 0.3, role: test}``.

    Raises
    ------
    ConfigError
        An unknown attack, setting or role (the nearest is named), a missing setting, or a value out of range.
    """
    makers: dict[str, Callable[..., Attack | CorpusPoisoning]] = {name: entry[1] for name, entry in ATTACKS.items()}
    return construct(makers, config, what="attack")

"""Typing errors in queries: swapped, dropped, doubled and neighbouring keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mogrid.attacks.base import Attack
from mogrid.data.domain import Role
from mogrid.errors import ConfigError, nearest

__all__ = ["KINDS", "SELECT_TYPOS", "TEST_TYPOS", "TRAIN_TYPOS", "Typos", "replace_some"]

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _neighbouring_keys() -> dict[str, str]:
    """Keys that touch on a QWERTY keyboard, whose rows are shifted by half a key each."""
    place = {key: (row, column + row / 2) for row, keys in enumerate(_ROWS) for column, key in enumerate(keys)}
    return {
        key: "".join(k for k, (r, c) in place.items() if k != key and abs(r - row) <= 1 and abs(c - column) <= 1)
        for key, (row, column) in place.items()
    }


_NEIGHBOURS = _neighbouring_keys()


def _swap(word: str, at: int, rng: np.random.Generator) -> str:
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _delete(word: str, at: int, rng: np.random.Generator) -> str:
    return word[:at] + word[at + 1 :]


def _double(word: str, at: int, rng: np.random.Generator) -> str:
    return word[:at] + word[at] + word[at:]


def _keyboard(word: str, at: int, rng: np.random.Generator) -> str:
    keys = _NEIGHBOURS.get(word[at].lower())
    if not keys:
        return _double(word, at, rng)
    key = keys[int(rng.integers(len(keys)))]
    return word[:at] + (key.upper() if word[at].isupper() else key) + word[at + 1 :]


KINDS: dict[str, Callable[[str, int, np.random.Generator], str]] = {
    "swap": _swap,
    "delete": _delete,
    "double": _double,
    "keyboard": _keyboard,
}
"""Swap with the next letter, drop, double, or hit a neighbouring key."""

_WORD = re.compile(r"[^\W\d_]{4,}")


def replace_some(
    text: str,
    words: Sequence[re.Match[str]],
    rate: float,
    change: Callable[[str, np.random.Generator], str],
    rng: np.random.Generator,
) -> str:
    """Return a text with each of some words changed with a probability, and at least one of them."""
    if not words:
        return text
    chosen = rng.random(len(words)) < rate
    if not chosen.any():
        chosen[rng.integers(len(words))] = True
    parts, end = [], 0
    for word, hit in zip(words, chosen, strict=True):
        parts.append(text[end : word.start()])
        parts.append(change(word[0], rng) if hit else word[0])
        end = word.end()
    return "".join(parts) + text[end:]


class Typos(Attack):
    """Misspell words of at least four letters, each with a probability, and at least one in a text that has any.

    The first and the last letter are kept, as people mostly keep them and readers need them; swaps of equal letters
    are moved on to a pair that differs where the word has one.

    Parameters
    ----------
    kinds : sequence of {"swap", "delete", "double", "keyboard"}
        Drawn with equal probability.
    rate : float
        Probability that an eligible word is misspelled, in (0, 1].
    role : Role
    """

    white_box = False

    def __init__(self, kinds: Sequence[str], *, rate: float = 0.3, role: Role = Role.TRAIN) -> None:
        for kind in kinds:
            if kind not in KINDS:
                raise ConfigError(f"no kind of typo is called {kind!r}{nearest(kind, KINDS)}")
        if not kinds or not 0 < rate <= 1:
            raise ConfigError(f"typos need a kind and a rate in (0, 1], got {list(kinds)} and {rate}")
        self.kinds = tuple(kinds)
        self.rate = rate
        self.role = role
        self.name = f"typos({'+'.join(self.kinds)})"

    def perturb(self, texts: Sequence[str], victim: Any, rng: np.random.Generator) -> list[str]:
        """Return the texts with typos. Per text the generator is asked for words, then kinds, places and keys."""
        return [self._misspell(text, rng) for text in texts]

    def _misspell(self, text: str, rng: np.random.Generator) -> str:
        return replace_some(text, list(_WORD.finditer(text)), self.rate, self._change, rng)

    def _change(self, word: str, rng: np.random.Generator) -> str:
        kind = self.kinds[int(rng.integers(len(self.kinds)))]
        at = int(rng.integers(1, len(word) - 1))
        if kind == "swap":
            inner = [i for i in range(1, len(word) - 2) if word[i] != word[i + 1]]
            if not inner:
                return _delete(word, at, rng)
            at = inner[int(rng.integers(len(inner)))]
        return KINDS[kind](word, at, rng)


TRAIN_TYPOS = Typos(("swap", "delete"), role=Role.TRAIN)
SELECT_TYPOS = Typos(("double",), role=Role.SELECT)
TEST_TYPOS = Typos(("keyboard",), role=Role.TEST)
"""What is trained on, selected by and tested on are different kinds of error."""

"""Typing errors in queries: swapped, dropped, doubled and neighbouring keys."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import regex

from mogrid.attacks.base import Attack
from mogrid.data.domain import Role
from mogrid.data.words import UNSPACED
from mogrid.errors import ConfigError, nearest

__all__ = ["KINDS", "SELECT_TYPOS", "TEST_TYPOS", "TRAIN_TYPOS", "Typos", "replace_some"]

_KEYBOARDS = (
    ("qwertyuiop", "asdfghjkl", "zxcvbnm"),
    ("йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю"),
    (" ςερτυθιοπ", "ασδφγηξκλ", "ζχψωβνμ"),
    ("  קראטוןםפ", "שדגכעיחלךף", "זסבהנמצתץ"),
    ("ضصثقفغعهخحجد", "شسيبلاتنمكط", "ئءؤر ىةوزظ"),
)
"""Rows of keys: Latin, Cyrillic, Greek, Hebrew, Arabic."""


def _neighbouring_keys() -> dict[str, str]:
    """Keys that touch on a keyboard whose rows are shifted by half a key each."""
    found: dict[str, str] = {}
    for rows in _KEYBOARDS:
        place = {key: (row, column + row / 2) for row, keys in enumerate(rows) for column, key in enumerate(keys)}
        place.pop(" ", None)
        for key, (row, column) in place.items():
            found[key] = "".join(
                k for k, (r, c) in place.items() if k != key and abs(r - row) <= 1 and abs(c - column) <= 1
            )
    return found


_NEIGHBOURS = _neighbouring_keys()
Letters = Sequence[str]


def _swap(word: Letters, at: int, rng: np.random.Generator) -> str:
    return "".join([*word[:at], word[at + 1], word[at], *word[at + 2 :]])


def _delete(word: Letters, at: int, rng: np.random.Generator) -> str:
    return "".join([*word[:at], *word[at + 1 :]])


def _double(word: Letters, at: int, rng: np.random.Generator) -> str:
    return "".join([*word[:at], word[at], *word[at:]])


def _keyboard(word: Letters, at: int, rng: np.random.Generator) -> str:
    keys = _NEIGHBOURS.get(word[at].lower())
    if keys:
        key = keys[int(rng.integers(len(keys)))]
        key = key.upper() if word[at].isupper() else key
    else:
        key = _next_letter(word[at])
    return "".join([*word[:at], key, *word[at + 1 :]])


def _next_letter(letter: str) -> str:
    """Return the letter that follows in Unicode's own order, where no keyboard is known.

    That is one of the same script, kind and case, or another form of the letter; of Chinese, one that shares a radical.
    """
    first, marks = letter[0], letter[1:]
    kind, script = unicodedata.category(first), unicodedata.name(first, "").split()[:1]
    for step in (1, -1, 2, -2):
        other = chr(min(max(ord(first) + step, 1), 0x10FFFF))
        if unicodedata.category(other) == kind and unicodedata.name(other, "").split()[:1] == script:
            return other + marks
    return letter * 2


KINDS: dict[str, Callable[[Letters, int, np.random.Generator], str]] = {
    "swap": _swap,
    "delete": _delete,
    "double": _double,
    "keyboard": _keyboard,
}
"""Swap with the next letter, drop, double, or hit a neighbouring key."""

_OF_ROLE = {Role.TRAIN: ("swap", "delete"), Role.SELECT: ("double",), Role.TEST: ("keyboard",)}
"""What is trained on, selected by and tested on are different kinds of error."""

_ASCII_WORD = re.compile(r"[^\W\d_]{4,}")
# A letter with the marks that stand on it; where words have no ends, as many letters as a word may have.
_WORD = regex.compile(rf"(?V1)(?:[[{UNSPACED}]&&\p{{L}}]\p{{M}}*){{2,4}}|(?:[\p{{L}}--[{UNSPACED}]]\p{{M}}*){{4,}}")
_LETTER = regex.compile(r"\P{M}\p{M}*")


def replace_some(
    text: str,
    words: Sequence[Any],
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
    are moved on to a pair that differs where the word has one. Any script will do: where words have no ends (Chinese,
    Thai, ...), two to four letters are a word; where no keyboard is known, a key's neighbour is the next letter of the
    script.

    Parameters
    ----------
    kinds : sequence of {"swap", "delete", "double", "keyboard"}, optional
        Drawn with equal probability. When left out they are the role's own, so that no error that is trained on or
        selected by is tested on: swaps and drops to train on, doubled letters to select by, neighbouring keys to test.
    rate : float
        Probability that an eligible word is misspelled, in (0, 1].
    role : Role
        What the attack may be used for: what is trained against is not tested with.
    """

    white_box = False

    def __init__(self, kinds: Sequence[str] | None = None, *, rate: float = 0.3, role: Role = Role.TRAIN) -> None:
        kinds = _OF_ROLE[role] if kinds is None else kinds
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
        words = (_ASCII_WORD if text.isascii() else _WORD).finditer(text)
        return replace_some(text, list(words), self.rate, self._change, rng)

    def _change(self, word: str, rng: np.random.Generator) -> str:
        letters = _LETTER.findall(word)
        kind = self.kinds[int(rng.integers(len(self.kinds)))]
        at = int(rng.integers(1, max(len(letters) - 1, 2)))
        if kind == "swap":
            inner = [i for i in range(1, len(letters) - 2) if letters[i] != letters[i + 1]]
            if not inner:
                return _delete(letters, at, rng)
            at = inner[int(rng.integers(len(inner)))]
        return KINDS[kind](letters, at, rng)


TRAIN_TYPOS = Typos(role=Role.TRAIN)
SELECT_TYPOS = Typos(role=Role.SELECT)
TEST_TYPOS = Typos(role=Role.TEST)

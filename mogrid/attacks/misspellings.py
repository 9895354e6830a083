"""Misspellings that people really make, from the list that codespell corrects by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from mogrid.attacks.base import Attack
from mogrid.attacks.typos import replace_some
from mogrid.data.domain import Role
from mogrid.errors import ConfigError

__all__ = ["Misspellings"]

_WORD = re.compile(r"(?<!\w)[^\W\d_]{3,}(?!\w)")


class Misspellings(Attack):
    """Replace words by recorded misspellings of them, each with a probability, and at least one where any is known.

    The list is that of the installed package ``codespell``: 58,000 misspellings with one correction each, collected
    from source code and its documentation. Every misspelling of a word is as likely as every other.

    Parameters
    ----------
    rate : float
        Probability that a word with a known misspelling is misspelled, in (0, 1].
    role : Role
        What the attack may be used for: what is trained against is not tested with.

    Raises
    ------
    ConfigError
        The rate is out of range, or codespell is not installed.
    """

    name = "misspellings"
    white_box = False

    def __init__(self, rate: float = 0.5, role: Role = Role.TEST) -> None:
        if not 0 < rate <= 1:
            raise ConfigError(f"rate must lie in (0, 1], got {rate}")
        self.rate = rate
        self.role = role
        self.known = _misspellings()

    @property
    def budget(self) -> str:
        """What the attacker may do, in words, for records and tables."""
        return f"{self.rate:.0%} of the words that people are known to misspell"

    def perturb(self, texts: Sequence[str], victim: Any, rng: np.random.Generator) -> list[str]:
        """Return the texts misspelled. Per text the generator is asked for words, then for their misspellings."""
        return [self._misspell(text, rng) for text in texts]

    def _misspell(self, text: str, rng: np.random.Generator) -> str:
        words = [word for word in _WORD.finditer(text) if word[0].lower() in self.known]
        return replace_some(text, words, self.rate, self._wrong, rng)

    def _wrong(self, word: str, rng: np.random.Generator) -> str:
        ways = self.known[word.lower()]
        wrong = ways[int(rng.integers(len(ways)))]
        return wrong.upper() if word.isupper() and len(word) > 1 else wrong.capitalize() if word[0].isupper() else wrong


@lru_cache(maxsize=1)
def _misspellings() -> dict[str, tuple[str, ...]]:
    """Return correction → its misspellings, single words of letters alone, in alphabetical order."""
    try:
        text = (resources.files("codespell_lib") / "data" / "dictionary.txt").read_text("utf-8")
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise ConfigError("misspellings need the package codespell: pip install 'mogrid[attacks]'") from error
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        wrong, arrow, right = line.strip().partition("->")
        if arrow and "," not in right and wrong.isalpha() and right.isalpha():
            found.setdefault(right.lower(), []).append(wrong.lower())
    return {right: tuple(sorted(wrong)) for right, wrong in found.items()}

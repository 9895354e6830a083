"""What a spell checker makes of perturbed queries: the row that a robust model has to beat."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mogrid.attacks.base import Attack
from mogrid.data.words import units
from mogrid.errors import ConfigError, nearest

__all__ = ["Corrected"]

_WORD = re.compile(r"[^\W\d_]{3,}")


class Corrected(Attack):
    """Another attack's texts after a spell checker, which knows a language and the words of the corpus.

    Norvig's corrector, as the package ``pyspellchecker`` has it: a word that neither the dictionary nor the corpus
    knows becomes a known one at one edit's distance, if there is any, the most frequent one of the corpus or else of
    the language. It may restore every text, so that it is not refused for leaving them as they were.

    Parameters
    ----------
    attack : Attack
        Without a victim, or with one: it is handed on.
    language : str
        Of the dictionary.
    drawn_as : str, optional
        Name of the condition under which the attack itself is judged: both draw the same errors.

    Raises
    ------
    ConfigError
        The language is unknown, or pyspellchecker is not installed.
    """

    restores = True

    def __init__(self, attack: Attack, language: str = "en", drawn_as: str | None = None) -> None:
        self.attack = attack
        self.language = language
        self.drawn_as = drawn_as
        self.name = f"{attack.name}+spelling"
        self.role = attack.role
        self.white_box = attack.white_box
        self._checker = _checker(language)
        self._here: Counter[str] = Counter()
        self._known: dict[str, str] = {}

    def within(self, corpus: Mapping[str, str]) -> Corrected:
        """Return one that knows the words of a corpus, too."""
        other = Corrected(self.attack.within(corpus), self.language, self.drawn_as)
        other._here.update(word for text in corpus.values() for word in units(text))
        other._checker.word_frequency.load_words(other._here)
        return other

    def perturb(self, texts: Sequence[str], victim: Any, rng: np.random.Generator) -> list[str]:
        """Return the attack's texts, corrected. The generator is the attack's alone."""
        return [_WORD.sub(self._right, text) for text in self.attack.perturb(texts, victim, rng)]

    def _right(self, found: re.Match[str]) -> str:
        word, plain = found[0], found[0].lower()
        if plain not in self._known:
            known = {plain} if plain in self._checker else self._checker.candidates(plain) or {plain}
            self._known[plain] = max(sorted(known), key=lambda other: (self._here[other], self._checker[other]))
        right = self._known[plain]
        if right == plain:
            return word
        return right.upper() if word.isupper() else right.capitalize() if word[0].isupper() else right


def _checker(language: str) -> Any:
    try:
        from spellchecker import SpellChecker
    except ModuleNotFoundError as error:
        raise ConfigError("a spell checker needs the package pyspellchecker: pip install 'mogrid[attacks]'") from error
    checker: Any = SpellChecker
    if language not in checker.languages():
        raise ConfigError(f"no dictionary for language {language!r}{nearest(language, checker.languages())}")
    return checker(language, distance=1)  # two edits cost a hundred times as much

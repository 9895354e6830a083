"""The spell checker's row: the same errors as the plain row, corrected by dictionary and corpus."""

from __future__ import annotations

import sys
from collections import Counter
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

from mogrid.attacks import TEST_TYPOS, Corrected, Typos
from mogrid.data.domain import Domain, Role, Split
from mogrid.errors import ConfigError
from mogrid.evaluation import JudgedSplit, judge

CORPUS = {
    "a": "the weather report names rain in the mountains",
    "b": "kubelet restarts every container of a pod",
    "c": "a bridge across the river is closed",
}
QUERIES = {"qa": "weather report mountains", "qb": "kubelet restarts container", "qc": "bridge across river"}


class Standing:
    """What is used of pyspellchecker, where that extra is not installed: Norvig's corrector in a few lines."""

    def __init__(self, language: str, distance: int) -> None:
        self.words = Counter(
            ["the", "a", "of", "rain", "closed", "names", "every", "bridge", "restart", "contain", "weather", "report"]
        )
        self.word_frequency = self

    def load_words(self, words) -> None:
        self.words.update(words)

    @staticmethod
    def languages() -> list[str]:
        return ["en", "de"]

    def __contains__(self, word: str) -> bool:
        return word in self.words

    def __getitem__(self, word: str) -> int:
        return self.words[word]

    def candidates(self, word: str) -> set[str] | None:
        splits = [(word[:i], word[i:]) for i in range(len(word) + 1)]
        letters = "abcdefghijklmnopqrstuvwxyz"
        near = {a + b[1:] for a, b in splits} | {a + b[1] + b[0] + b[2:] for a, b in splits if len(b) > 1}
        near |= {a + c + rest for a, b in splits for c in letters for rest in (b, b[1:])}
        return {other for other in near if other in self.words} or None


@pytest.fixture(autouse=True)
def spellchecker(monkeypatch) -> None:
    if find_spec("spellchecker") is None:
        monkeypatch.setitem(sys.modules, "spellchecker", SimpleNamespace(SpellChecker=Standing))


@pytest.fixture
def words() -> Domain:
    return Domain("words", CORPUS, {Role.TEST: Split(Role.TEST, QUERIES, {q: {q[1]: 1} for q in QUERIES})})


def test_corrected_queries_draw_the_same_errors_and_mostly_lose_them(words) -> None:
    attacks = {"typos": TEST_TYPOS, "typos+spelling": Corrected(TEST_TYPOS, drawn_as="typos")}
    clean, typos, corrected = judge("bm25", [JudgedSplit(words, Role.TEST, attacks)])
    assert typos.changed == 1
    assert corrected.changed < 1
    assert clean.means["ndcg"] >= corrected.means["ndcg"] >= typos.means["ndcg"]
    alone = judge("bm25", [JudgedSplit(words, Role.TEST, {"typos": TEST_TYPOS})])[1]
    assert alone.ndcg == typos.ndcg


def test_words_of_the_corpus_are_known_and_capitals_stay() -> None:
    class Nothing(Typos):
        def perturb(self, texts, victim, rng):
            return list(texts)

    texts = ["Kubelet restartz CONTAINR", "12 xqzvw"]
    rng = np.random.default_rng(0)
    at_home = Corrected(Nothing(role=Role.TEST)).within(CORPUS)
    assert at_home.perturb(texts, None, rng) == ["Kubelet restarts CONTAINER", "12 xqzvw"]
    abroad = Corrected(Nothing(role=Role.TEST))
    assert abroad.perturb(["the bridge"], None, rng) == ["the bridge"]


def test_bad_input(monkeypatch) -> None:
    with pytest.raises(ConfigError, match="no dictionary for language 'xx'"):
        Corrected(TEST_TYPOS, "xx")
    monkeypatch.setitem(sys.modules, "spellchecker", None)
    with pytest.raises(ConfigError, match=r"pip install 'mogrid\[attacks\]'"):
        Corrected(TEST_TYPOS)


def test_on_the_command_line() -> None:
    from mogrid.commands.evaluate import _perturbations

    found = _perturbations(["typos:rate=0.5+spelling", "misspellings+spelling=en"], Role.TEST)
    assert list(found) == ["typos:rate=0.5", "typos:rate=0.5+spelling", "misspellings", "misspellings+spelling=en"]
    assert found["typos:rate=0.5+spelling"].drawn_as == "typos:rate=0.5"
    with pytest.raises(ConfigError, match="after \\+ stands 'spelling'"):
        _perturbations(["typos+speling"], Role.TEST)

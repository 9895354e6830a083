"""The words of a text, in any script: what BM25 counts, what the leak report compares, and when two texts are one."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

import regex

__all__ = ["UNSPACED", "same_text", "terms", "units"]

# Scripts whose writers leave no spaces between words. Korean has spaces, but its particles cling to the nouns: as in
# Lucene's CJKAnalyzer, which Anserini takes for Chinese, Japanese and Korean, it is read like them.
UNSPACED = "".join(
    rf"\p{{{script}}}"
    for script in (
        *("Han", "Hiragana", "Katakana", "Bopomofo", "Hangul", "Yi", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"),
        *("Javanese", "Balinese", "Tai_Le", "New_Tai_Lue", "Tai_Tham", "Tai_Viet"),
    )
)
# Vowel signs and accents that stand alone are no letters to `\w`, and would cut a word of Hindi to pieces.
_ANY = r"[\p{L}\p{M}\p{N}_]"
_RUNS = regex.compile(f"(?V1)(?P<unspaced>[[{UNSPACED}ー]&&{_ANY}]+)|[{_ANY}--[{UNSPACED}ー]]+")
_LETTERS = regex.compile(r"\P{M}\p{M}*|\p{M}+")
# Latin, Greek, Cyrillic and punctuation, without signs that stand alone: `\w+` reads it alike, ten times as fast.
_PLAIN = re.compile("[\0-\u02ff\u0370-\u0482\u048a-\u052f\u1e00-\u20cf\u2100-\u2bff]*")
_WORDS = re.compile(r"\w+")
_WIDE = re.compile("[\uff01-\uffef]+")


def _runs(text: str) -> list[tuple[str, list[str]]]:
    """Return the words, each with the letters to count instead where its script leaves no spaces between words."""
    if _PLAIN.fullmatch(text):
        return [(word, []) for word in _WORDS.findall(text.lower())]
    text = _WIDE.sub(lambda wide: unicodedata.normalize("NFKC", wide[0]), text)
    return [
        (run[0], _LETTERS.findall(run[0]) if run["unspaced"] else [])
        for run in _RUNS.finditer(unicodedata.normalize("NFC", text).lower())
    ]


def units(text: str) -> list[str]:
    """Return the words of a text in lower case, and the single letters of scripts without spaces between words."""
    return [unit for word, letters in _runs(text) for unit in letters or [word]]


def terms(text: str) -> list[str]:
    """Return what a text is found by: words of at least two letters, and pairs of letters where words have no ends.

    A letter of such a script that stands alone is a term.
    """
    found = []
    for word, letters in _runs(text):
        if len(letters) > 1:
            found += [first + second for first, second in pairwise(letters)]
        elif letters or len(word) > 1:
            found.append(word)
    return found


def same_text(text: str) -> str:
    """Return what makes two texts one: case and spacing do not tell them apart, nor do they to a tokenizer."""
    return " ".join(text.lower().split())

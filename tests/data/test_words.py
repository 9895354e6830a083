"""Words of any script: BM25 finds in Chinese and Thai what it finds in English, and near-duplicates are seen there."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mogrid.data import Role, near_duplicates, read_beir
from mogrid.data.words import terms, units
from mogrid.retrieval.bm25 import bm25_run

CASES = Path(__file__).parents[1] / "cases"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The GPU's 3 fans, x", ["the", "gpu", "fans"]),
        ("用GPU加速 3倍，好！", ["用", "gpu", "加速", "倍", "好"]),
        ("水烧开。ラーメン", ["水烧", "烧开", "ラー", "ーメ", "メン"]),
        ("ＧＰＵ ｱｲｽ", ["gpu", "アイ", "イス"]),  # full and half width are one
        ("한국어는", ["한국", "국어", "어는"]),
        ("हिन्दी में", ["हिन्दी", "में"]),  # vowel signs are part of a word
        ("Ra\u0308der", ["räder"]),
        ("", []),
    ],
)
def test_terms(text, expected) -> None:
    assert terms(text) == expected


def test_thai_letters_keep_their_signs() -> None:
    assert units("ที่") == ["ที่"]
    assert terms("กินข้าว") == ["กิ" + "น", "น" + "ข้", "ข้" + "า", "า" + "ว"]


@given(st.text(st.characters(max_codepoint=0x2BFF)))
def test_the_fast_way_and_the_slow_one_agree(text) -> None:
    text = unicodedata.normalize("NFC", text)
    plain = [c for c in text if unicodedata.category(c)[0] != "M" and unicodedata.category(c) != "Cn"]
    assert [*units("".join(plain)), "水"] == units("".join(plain) + " 水")


def test_bm25_finds_chinese_documents() -> None:
    domain = read_beir(CASES / "chinese", {Role.TEST: "test"})
    run = bm25_run(domain.split(Role.TEST).queries, domain.corpus)
    assert [max(found, key=found.__getitem__) for found in run.values()] == ["d1", "d2", "d3"]


@pytest.mark.parametrize(
    ("text", "changed", "other"),
    [
        (
            "水壶可以把水烧开，用于泡茶。这是厨房里最常见的电器之一，几乎每个家庭都有一个，早上用它泡咖啡或者茶。",
            "水壶可以把水烧开，用来泡茶。这是厨房里最常见的电器之一，几乎每个家庭都有一个，早上用它泡咖啡或者茶！",
            "床是用来睡觉的家具。",
        ),
        ("กาต้มน้ำใช้ต้มน้ำให้เดือดเพื่อชงชาหรือกาแฟในตอนเช้าทุกวัน", "กาต้มน้ำใช้ต้มน้ำให้เดือดเพื่อชงชาและกาแฟในตอนเช้าทุกวัน", "เตียงใช้นอน"),
    ],
)
def test_near_duplicates_without_spaces(text, changed, other) -> None:
    (pair,) = near_duplicates([other, text], [other + text[:5], changed], threshold=0.7)
    assert (pair.measured, pair.trained) == (1, 1)

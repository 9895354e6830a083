"""Typing errors in any script, and another kind of error for every role, wherever the name is resolved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mogrid.attacks import SELECT_TYPOS, TEST_TYPOS, TRAIN_TYPOS, Typos, attack_from_config
from mogrid.attacks.base import changed_share
from mogrid.attacks.registry import attack_for
from mogrid.data import read_beir
from mogrid.data.domain import Role
from mogrid.evaluation import JudgedSplit, judge

CASES = Path(__file__).parents[1] / "cases"
TEXTS = {
    "Latin": "the river runs past a garden",
    "accents": "où se trouve l'élève émérite près de la forêt",
    "Cyrillic": "сколько колёс у обычного велосипеда",
    "Greek": "πόσες ρόδες έχει ένα ποδήλατο",
    "Hebrew": "כמה גלגלים יש לאופניים רגילים",
    "Arabic": "كم عدد عجلات الدراجة العادية",
    "Hindi": "साइकिल में कितने पहिये होते हैं",
    "Chinese": "什么可以把水烧开？几个轮子的自行车",
    "Japanese": "自転車にはいくつの車輪がありますか",
    "Korean": "자전거에는 바퀴가 몇 개 있습니까",
    "Thai": "จักรยานมีกี่ล้อ",
    "Georgian": "რამდენი ბორბალი აქვს ველოსიპედს",
}


def wrong(attack: Typos, text: str, seed: int = 0) -> str:
    return attack.perturb([text], None, np.random.default_rng(seed))[0]


@pytest.mark.parametrize("script", TEXTS)
def test_every_role_errs_otherwise_in_every_script(script) -> None:
    text = TEXTS[script]
    found = {role: {wrong(Typos(role=role), text, seed) for seed in range(20)} for role in Role}
    for role, texts in found.items():
        assert text not in texts, role
        assert len(texts) > 1
    assert not found[Role.SELECT] & found[Role.TEST]
    assert not found[Role.TRAIN] & found[Role.TEST]
    for other in found[Role.TEST]:  # a key was missed: as many letters as before, most of them the same
        assert len(other) == len(text)
        assert sum(a != b for a, b in zip(text, other, strict=True)) < len(text) / 2


def test_neighbouring_keys_are_those_of_the_scripts_own_keyboard() -> None:
    hit = {wrong(TEST_TYPOS, "кост", seed) for seed in range(60)}
    assert {text[1] for text in hit if text[2] == "с"} <= set("гшрлть")
    assert {text[2] for text in hit if text[1] == "о"} <= set("вачм")
    assert len(hit) > 6


@given(st.text(max_size=60), st.integers(0, 100))
def test_any_text_keeps_its_ends_and_its_length(text, seed) -> None:
    for attack in (TRAIN_TYPOS, SELECT_TYPOS, TEST_TYPOS):
        other = wrong(attack, text, seed)
        assert abs(len(other) - len(text)) <= len(text)
        assert other[:1] == text[:1]


@pytest.mark.parametrize("role", list(Role))
def test_one_place_says_what_typos_are(role) -> None:
    """`--role select` and `--role select --perturb typos` were two kinds of error, the second the test's own."""
    from mogrid.commands.evaluate import _perturbations

    kinds = {Role.TRAIN: ("swap", "delete"), Role.SELECT: ("double",), Role.TEST: ("keyboard",)}[role]
    made = [attack_from_config({"name": "typos", "role": str(role)}), Typos(role=role)]
    made += [attack_for("typos", role), attack_for({"name": "typos", "rate": 0.3}, role)]
    if role is Role.TRAIN:
        made += [TRAIN_TYPOS]
    else:
        made += [_perturbations(given, role)["typos"] for given in (None, ["typos"])]
        made += [SELECT_TYPOS if role is Role.SELECT else TEST_TYPOS]
    assert {(attack.kinds, attack.rate, attack.role) for attack in made} == {(kinds, 0.3, role)}


def test_the_chinese_case() -> None:
    """Typos of role select and test differ and change the text."""
    queries = list(read_beir(CASES / "chinese", {Role.TEST: "test"}).split(Role.TEST).queries.values())
    select, test = (a.perturb(queries, None, np.random.default_rng(0)) for a in (SELECT_TYPOS, TEST_TYPOS))
    assert changed_share(queries, select) == changed_share(queries, test) == 1
    assert changed_share(select, test) == 1
    domain = read_beir(CASES / "chinese", {Role.TEST: "test"})
    _, typos = judge("bm25", [JudgedSplit(domain, Role.TEST, {"typos": TEST_TYPOS})])
    assert typos.changed == 1

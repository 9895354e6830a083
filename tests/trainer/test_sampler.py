"""Batches without known false negatives that leave no row out, and columns that mean what they say."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from mogrid import ParetoTrainer
from mogrid.errors import DataError
from mogrid.objectives import FGM, BalancedERM, InfoNCE
from mogrid.trainer import seating
from mogrid.trainer.conflicts import Conflicts
from mogrid.trainer.sampler import ExclusiveBatchSampler
from tests.trainer.test_pareto import arguments, pairs


def conflicts_of(**columns) -> Conflicts:
    found = Conflicts.of(Dataset.from_dict(columns))
    assert found is not None
    return found


def excluded(conflicts: Conflicts, a: int, b: int) -> bool:
    return conflicts.classes[a] in conflicts.against[b] or conflicts.classes[b] in conflicts.against[a]


def judged(queries: int, documents: int, relevant: float, seed: int) -> Conflicts:
    """Rows of a collection whose queries have `relevant` documents in the mean, many of them few and a few many."""
    rng = np.random.default_rng(seed)
    popular = 1 / np.arange(1, documents + 1) ** 0.3
    rows: dict[str, list[list[int]]] = {"document_ids": [], "relevant_ids": []}
    for count in np.minimum(rng.geometric(1 / relevant, queries), int(5 * relevant)).tolist():
        own = rng.choice(documents, count, replace=False, p=popular / popular.sum())
        rows["document_ids"] += [[int(d)] for d in own]
        rows["relevant_ids"] += [own.tolist()] * len(own)
    return conflicts_of(**rows)


def counts(batches: list[list[int]], rows: int) -> np.ndarray:
    return np.bincount(np.array(batches).ravel(), minlength=rows)


# -- every row once, no two that exclude each other --------------------------------------------------------------------


@given(st.data(), st.integers(2, 6), st.integers(0, 3), st.sampled_from([0.0, 0.01, 0.5]))
@settings(deadline=None, max_examples=60)
def test_no_batch_holds_rows_that_exclude_each_other(data, size, seed, few) -> None:
    """Whichever way rows are seated: dealt out with care, or at random and mended."""
    ids = st.lists(st.integers(0, 40), min_size=1, max_size=3)
    documents = data.draw(st.lists(ids, min_size=12, max_size=60))
    relevant = data.draw(st.lists(ids, min_size=len(documents), max_size=len(documents)))
    conflicts = conflicts_of(document_ids=documents, relevant_ids=relevant)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        patch.setattr(seating, "_FEW", few)
        try:
            sampler = ExclusiveBatchSampler(conflicts, size, seed=seed)
        except DataError as error:
            assert "can share a batch" in str(error)
            return
        batches = list(sampler)
    assert len(batches) == len(sampler)
    for rows in batches:
        assert len(set(rows)) == size
        clashes = [(a, b) for a in rows for b in rows if a < b and excluded(conflicts, a, b)]
        assert not clashes
        for a in rows:
            for b in rows:
                if a != b:
                    assert not set(documents[a]) & set(relevant[b])
    if not warned:
        assert (counts(batches, len(documents)) > 0).mean() >= 0.99


@pytest.mark.parametrize(
    ("queries", "documents", "relevant", "size"),
    [(221, 900, 7.3, 16), (221, 900, 7.3, 32), (52, 550, 15, 8), (600, 120, 1, 16), (300, 9000, 12, 32)],
)
def test_every_row_is_drawn_once_an_epoch(queries, documents, relevant, size) -> None:
    """As dense as cranfield and cacm, few documents of many queries, and queries with many documents of their own."""
    conflicts = judged(queries, documents, relevant, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler = ExclusiveBatchSampler(conflicts, size, seed=0)
    ideal = len(conflicts) / size
    for epoch in range(2):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        drawn = counts(batches, len(conflicts))
        assert len(batches) == len(sampler) <= max(1.1 * ideal, ideal + 1)
        assert (drawn > 0).mean() >= 0.99
        assert drawn.max() <= 3
        assert not [(a, b) for rows in batches for a in rows for b in rows if a < b and excluded(conflicts, a, b)]


def test_queries_that_fill_all_batches_but_a_few_places() -> None:
    """50 queries of 40 documents each, 32 a batch: 2,000 rows of which every batch can hold 50 at most."""
    conflicts = conflicts_of(group=[row % 50 for row in range(2000)])
    sampler = ExclusiveBatchSampler(conflicts, 32, seed=0)
    assert len(sampler) == 63
    assert set(counts(list(sampler), 2000)) == {1, 2}


def test_rows_without_conflicts_are_drawn_once_and_the_last_batch_is_filled() -> None:
    sampler = ExclusiveBatchSampler(Conflicts.none(100), 8, seed=0)
    assert len(sampler) == 13
    drawn = counts(list(sampler), 100)
    assert drawn.sum() == 104
    assert Counter(drawn.tolist()) == {1: 96, 2: 4}


def test_batches_are_a_function_of_seed_and_epoch() -> None:
    conflicts = judged(60, 400, 3.0, seed=0)
    sampler = ExclusiveBatchSampler(conflicts, 8, seed=0)
    first = list(sampler)
    assert list(sampler) == first
    assert list(ExclusiveBatchSampler(conflicts, 8, seed=0)) == first
    assert list(ExclusiveBatchSampler(conflicts, 8, seed=1)) != first
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_what_cannot_be_drawn_is_said_and_is_not_the_same_in_every_epoch() -> None:
    """A query with 300 of 500 documents: no more than one of them a batch, of which there are 68."""
    conflicts = conflicts_of(group=[0] * 300 + list(range(1, 201)))
    with pytest.warns(
        UserWarning, match=r"dataset 'wide': \d+ of its 500 rows are left out of an epoch.*smaller batch"
    ):
        sampler = ExclusiveBatchSampler(conflicts, 8, seed=0, name="wide")
    assert len(sampler) <= 68
    drawn = np.zeros(500, dtype=int)
    for epoch in range(40):
        sampler.set_epoch(epoch)
        drawn += counts(list(sampler), 500)
    assert drawn.min() > 0


def test_a_batch_that_nothing_can_fill_is_an_error() -> None:
    with pytest.raises(DataError, match=r"dataset 'x': no 8 of its 40 rows can share a batch.*smaller batch"):
        ExclusiveBatchSampler(conflicts_of(group=[row % 5 for row in range(40)]), 8, seed=0, name="x")
    for rows in (Conflicts.none(1), conflicts_of(group=[0, 0])):  # whether or not they exclude each other
        with pytest.raises(DataError, match=rf"a batch of 8 needs as many rows, .* it has {len(rows)}: bring more"):
            ExclusiveBatchSampler(rows, 8, seed=0)


def test_many_rows_are_dealt_out_fast() -> None:
    """A bound on work, not on time: of 40,000 rows with few conflicts, only those that met one are looked at."""
    ids = np.arange(40_000)
    conflicts = conflicts_of(document_ids=ids, relevant_ids=np.stack([ids, ids ^ 1], axis=1).tolist())
    sampler = ExclusiveBatchSampler(conflicts, 64, seed=0)
    (part,) = sampler.parts
    assert len(part.heavy) == 0
    batches = np.array(list(sampler))
    assert (np.bincount(batches.ravel(), minlength=40_000) >= 1).all()
    partners = np.sort(batches // 2, axis=1)
    assert not (partners[:, 1:] == partners[:, :-1]).any()


# -- strata ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [["b", "a"], [0, 1], [0.25, 0.75], [-1, 65535]])
def test_strata_are_balanced_whatever_their_values(values) -> None:
    strata = [values[0]] * 30 + [values[1]] * 10
    sampler = ExclusiveBatchSampler(conflicts_of(group=list(range(40))), 6, seed=0, strata=strata)
    batches = list(sampler)
    assert len(batches) == 10
    assert all(Counter(strata[row] for row in rows) == {values[0]: 3, values[1]: 3} for rows in batches)
    drawn = counts(batches, 40)
    assert set(drawn[:30]) == {1}
    assert drawn[30:].sum() == 30
    assert drawn[30:].min() >= 2


def test_bad_strata_are_one_line() -> None:
    with pytest.raises(DataError, match="'x': 3 labels do not fit into a batch of 2"):
        ExclusiveBatchSampler(Conflicts.none(9), 2, seed=0, strata=[0, 1, 2] * 3, name="x")
    with pytest.raises(
        DataError, match="'x', label 1: a batch of 4 needs as many rows, none of them twice, and it has 2"
    ):
        ExclusiveBatchSampler(Conflicts.none(20), 8, seed=0, strata=[0] * 18 + [1] * 2, name="x")
    with pytest.raises(DataError, match="'x': a stratum is a number or a text, one a row"):
        ExclusiveBatchSampler(Conflicts.none(2), 2, seed=0, strata=[[0], [0, 1]], name="x")


# -- columns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, np.array])
def test_ids_may_be_numbers_texts_or_lists_of_them(kind) -> None:
    for ids in ([0, 1, 0, 2], ["a", "b", "a", "c"]):
        for conflicts in (
            conflicts_of(group=kind(ids)),
            conflicts_of(document_ids=kind(ids)),
            conflicts_of(relevant_ids=[[i] for i in ids]),
            conflicts_of(document_ids=kind(ids), relevant_ids=[[i, i] for i in ids]),
        ):
            assert [(a, b) for a in range(4) for b in range(a) if excluded(conflicts, a, b)] == [(2, 0)]


def test_group_and_ids_count_both() -> None:
    conflicts = conflicts_of(
        document_ids=[0, 1, 2, 3], relevant_ids=[[0], [0, 1], [2], [3]], group=["x", "y", "x", "z"]
    )
    assert [(a, b) for a in range(4) for b in range(a) if excluded(conflicts, a, b)] == [(1, 0), (2, 0)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"group": [0, None]}, "'d': column 'group': row 1 has no value"),
        ({"document_ids": [[0], [None]]}, "'d': column 'document_ids': row 1 holds an id that is missing"),
        ({"document_ids": [[0], [1]], "relevant_ids": [["a"], ["b"]]}, "'d': .*of two types"),
    ],
)
def test_bad_ids_are_one_line(columns, message) -> None:
    with pytest.raises(DataError, match=message) as caught:
        Conflicts.of(Dataset.from_dict(columns), "d")
    assert "\n" not in str(caught.value)


def loader_rows(model, texts, tmp_path, rows: Dataset, loss) -> tuple[list[list[int]], ParetoTrainer]:
    trainer = ParetoTrainer(
        model=model, args=arguments(tmp_path, router_mapping={}), train_dataset={"only": rows}, loss={"only": loss},
        solver="fixed",
    )  # fmt: skip
    return [[row for _, row in batch] for batch in trainer.get_train_dataloader().batch_sampler], trainer


@pytest.mark.parametrize(
    "label", [[i / 24 for i in range(24)], [int(i < 4) for i in range(24)], [[i, i + 1] for i in range(24)]]
)
def test_a_label_is_the_losss_business_and_no_stratum(model, texts, tmp_path, label) -> None:
    """A score, a class or a list of ids beside a group: all rows are drawn, once."""
    rows = pairs(texts, slice(0, 24)).add_column("label", label)
    batches, trainer = loader_rows(model, texts, tmp_path, rows, InfoNCE(model))
    assert sorted(row for rows in batches for row in rows) == list(range(24))
    (batch,) = next(iter(trainer.get_train_dataloader())).values()
    assert "group" not in str(list(batch))
    assert len(batch["label"]) == 8


@pytest.mark.parametrize("wrapped", [False, True])
def test_losses_over_domains_balance_their_batches(model, texts, tmp_path, wrapped) -> None:
    rows = pairs(texts, slice(0, 24)).remove_columns("group").add_column("label", [int(i < 4) for i in range(24)])
    loss = BalancedERM(InfoNCE(model))
    batches, _ = loader_rows(model, texts, tmp_path, rows, FGM(loss, 0.01) if wrapped else loss)
    assert all(sum(row < 4 for row in rows) == 4 for rows in batches)
    with pytest.raises(DataError, match="'only': BalancedERM needs a column 'label'"):
        loader_rows(model, texts, tmp_path, rows.remove_columns("label"), loss)


def test_a_group_of_texts_keeps_rows_apart(model, texts, tmp_path) -> None:
    group = [f"page {i // 2}" for i in range(24)]
    rows = pairs(texts, slice(0, 24)).remove_columns("group").add_column("group", group)
    batches, trainer = loader_rows(model, texts, tmp_path, rows, InfoNCE(model))
    assert all(len({group[row] for row in rows}) == 8 for rows in batches)
    assert sorted(row for rows in batches for row in rows) == list(range(24))
    trainer.train()

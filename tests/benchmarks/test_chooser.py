"""The replay of the chooser: the same runs for all, regret by what was measured, and a chooser that is not blind."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.chooser import REPLAYED, Replay, main, regrets
from mogrid.errors import DataError
from mogrid.frontier import Measurements
from tests.frontier.truth import SIZES, Truth, grid, sweep


@pytest.fixture(scope="module")
def runs() -> Measurements:
    return sweep(
        Truth([[1, 0.1], [0.1, 1]]), sizes=SIZES[:1], totals=(1000.0, 4000.0, 32000.0), mixes=grid(2, 9), seeds=2,
        rng=np.random.default_rng(0), noise=0.004,
    )  # fmt: skip


def test_cells_are_mixes_by_lengths(runs) -> None:
    replay = Replay(runs)
    assert len(replay.lengths) == 3
    assert len(replay.mixes) == len(np.unique(runs.mix.round(4), axis=0))
    assert all(len(replay.rows(mix, level)) == 2 for mix in replay.mixes for level in range(3))
    order = [(mix, 1) for mix in replay.cells(1)]
    seen, left = replay.seen(order, 5.5 * replay.lengths[1], np.random.default_rng(0))
    assert set(replay.level[seen]) == {1}
    assert left == pytest.approx(5.5 * replay.lengths[1] - runs.flops[seen].sum())


def test_merges_of_corner_runs_of_one_seed_stand_for_their_mixes(runs) -> None:
    plain, budget = Replay(runs), float(runs.flops.max())
    level = plain.fair(budget)
    names = {(k, runs.seeds[row]): runs.labels[row] for k in range(2) for row in plain.rows(np.eye(2)[k], level)}
    best, worst = 3, 6
    merged = [
        ({names[0, seed]: float(mix[0]), names[1, seed]: float(mix[1])}, np.full(2, -float(i == wanted)))
        for seed, wanted in ((0, best), (1, worst))
        for i, mix in enumerate(plain.mixes)
        if 0 < mix[0] < 1
    ]
    replay, p = Replay(runs, merged=merged), np.array([0.5, 0.5])
    scores = [REPLAYED["merged corners"](replay, budget, p, np.random.default_rng(j)) for j in range(8)]
    assert {int(np.argmin(own)) for own in scores} == {best, worst}  # a repetition draws one seed of the corners
    assert all(np.isfinite(own).all() for own in scores)


def test_another_model_is_as_good_a_guide_as_it_is_alike(runs) -> None:
    other = replace(runs, values={"ndcg": runs.values["ndcg"][:, ::-1]})  # what was good for one is good for the other
    best = {}
    for name, beside in (("alike", runs), ("turned", other)):
        replay = Replay(runs, beside=Replay(beside))
        p = np.array([0.9, 0.1])
        scores = REPLAYED["another model"](replay, float(runs.flops.max()), p, np.random.default_rng(0))
        best[name] = replay.truth(p)[int(np.argmin(scores))] - replay.truth(p).min()
    assert best["alike"] < 0.005 < best["turned"]


@pytest.mark.slow
def test_every_method_chooses_and_the_chooser_better_than_blindly(runs, tmp_path, capsys) -> None:
    runs.save(tmp_path / "runs.jsonl")
    out = tmp_path / "regret.json"
    assert main(["--store", str(tmp_path / "runs.jsonl"), "--repetitions", "1", "--out", str(out)]) == 0
    found = {name: np.array(table) for name, table in json.loads(out.read_text())["regrets"].items()}
    assert found.keys() == REPLAYED.keys() - {"merged corners", "another model"}
    assert all(table.shape == (3, 1) and (table >= 0).all() for table in found.values())
    replay = Replay(runs)
    blind = [replay.truth(p).mean() - replay.truth(p).min() for p in np.array([[0.5, 0.5], [0.75, 0.25], [0.25, 0.75]])]
    assert (found["tune"].mean(axis=1) < 0.3 * np.array(blind)).all()
    assert "Regret of the choice" in capsys.readouterr().out
    again = regrets(Replay(runs), 1.2, 1, ["tune"])["tune"]
    assert np.allclose(again, found["tune"])


def test_what_cannot_be_replayed_is_one_line(runs, tmp_path, capsys) -> None:
    with pytest.raises(DataError, match="two lengths"):
        Replay(runs.only(runs.pairs.sum(axis=1) < 2000))
    assert main(["--store", str(tmp_path)]) == 2
    assert "no finished training" in capsys.readouterr().err


def test_runs_longer_than_those_to_be_foretold_are_left_out(runs, tmp_path, monkeypatch, capsys) -> None:
    runs.save(tmp_path / "runs.jsonl")
    seen: list[Replay] = []
    monkeypatch.setattr(
        "benchmarks.chooser.regrets", lambda replay, *given: seen.append(replay) or {"tune": np.ones((1, 2))}
    )
    for pairs in ("32000", "4000"):
        assert main(["--store", str(tmp_path / "runs.jsonl"), "--pairs", pairs]) == 0
    assert [len(replay.lengths) for replay in seen] == [3, 2]
    assert main(["--store", str(tmp_path / "runs.jsonl"), "--pairs", "10"]) == 2
    assert "no run has 10 pairs or fewer" in capsys.readouterr().err

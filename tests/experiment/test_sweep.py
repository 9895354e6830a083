"""Sweeps: cells in a useful order at equal FLOPs, several processes on one store, samples that keep what is judged."""

from __future__ import annotations

import threading
import time

import pytest

from mogrid.data import Collection, Domain, Role, Split
from mogrid.errors import ConfigError
from mogrid.evaluation.sample import sample_domain
from mogrid.files import held
from mogrid.sweep.pool import Pool


def domain() -> Domain:
    corpus = {f"d{i}": f"text {i}" for i in range(50)}
    select = Split(Role.SELECT, {f"q{i}": f"ask {i}" for i in range(10)}, {f"q{i}": {f"d{i}": 1} for i in range(10)})
    test = Split(Role.TEST, {f"t{i}": f"ask {i}" for i in range(5)}, {f"t{i}": {f"d{20 + i}": 1} for i in range(5)})
    return Domain("d", corpus, {Role.SELECT: select, Role.TEST: test})


def test_a_sample_keeps_what_is_relevant_and_is_always_the_same() -> None:
    small = sample_domain(domain(), 4, 7)
    assert [len(split.queries) for split in small.splits.values()] == [4, 4]
    relevant = {d for split in small.splits.values() for docs in split.qrels.values() for d in docs}
    assert len(relevant) == 8
    assert relevant < set(small.corpus)
    assert len(small.corpus) == 15
    assert small.fingerprint == sample_domain(domain(), 4, 7).fingerprint
    whole = domain()
    assert sample_domain(whole, None, None) is whole
    assert len(sample_domain(domain(), None, 1000).corpus) == 50


def claimed_work(cell, progress, stop) -> None:
    folder, name = cell
    if (folder / name).exists():
        return
    with held(folder / f"{name}.lock"):
        (folder / name).write_text("mine")


@pytest.mark.slow
def test_cells_that_others_run_are_waited_for_or_taken_over(tmp_path) -> None:
    """One claim goes away without a result, as when its process dies; the other leaves one."""
    locks = [held(tmp_path / f"{name}.lock") for name in ("dies", "ends")]
    for lock in locks:
        lock.__enter__()

    def others() -> None:
        time.sleep(4)
        locks[0].__exit__(None, None, None)
        (tmp_path / "ends").write_text("theirs")
        locks[1].__exit__(None, None, None)

    thread = threading.Thread(target=others)
    thread.start()
    with Pool(claimed_work, workers=1) as pool:
        pool.run([(tmp_path, "dies"), (tmp_path, "ends"), (tmp_path, "free")])
    thread.join()
    assert [(tmp_path / name).read_text() for name in ("dies", "ends", "free")] == ["mine", "theirs", "mine"]


@pytest.fixture(scope="module")
def collection(texts) -> Collection:
    def part(name: str, roles: dict[Role, slice]) -> Domain:
        corpus = {f"d{i}": document for i, (_, document) in enumerate(texts)}
        splits = {
            role: Split(
                role,
                {f"q{i}": texts[i][0] for i in range(*rows.indices(len(texts)))},
                {f"q{i}": {f"d{i}": 1} for i in range(*rows.indices(len(texts)))},
            )
            for role, rows in roles.items()
        }
        return Domain(name, corpus, splits)

    source = part("source", {Role.TRAIN: slice(60), Role.SELECT: slice(60, 80), Role.TEST: slice(80, 96)})
    others = (part(str(role), {role: slice(40)}) for role in Role)
    return Collection(source, tuple(others))


SETTINGS = {
    "encoder": {"vocabulary": 300, "max_length": 16, "dropout": 0.0, "towers": 1},
    "training": {"batch_size": 8},
    "weights": [
        {"effectiveness": 1},
        {"ood": 1},
        {"adversarial": 1},
        *({"effectiveness": w, "ood": 0.9 - w, "adversarial": 0.1} for w in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
    ],
    "scales": [
        {"size": "1x32", "learning_rate": 0.01, "pairs": [160, 320], "seeds": [0, 1]},
        {"size": "1x64", "learning_rate": 0.005, "pairs": [160], "weights": [0, 3]},
    ],
    "strategies": [
        {
            "size": "1x32",
            "pairs": 320,
            "seeds": [0],
            "solvers": {"MGDA": {"name": "mgda"}},
            "shares": [{"effectiveness": 0.5, "ood": 0.25, "adversarial": 0.25}],
        }
    ],
}


def test_cells_of_a_sweep(collection, tmp_path) -> None:
    from mogrid.experiment.cells import DataSource
    from mogrid.experiment.sweep import SweepSettings, sweep_cells

    settings = SweepSettings.model_validate(SETTINGS)
    cells, averages = sweep_cells(settings, DataSource(), collection, tmp_path)
    assert {cell.strategy for cell in averages} == {"avg of corners", "avg with untrained"}
    sweep = [cell for cell in cells if cell.kind == "sweep"]
    assert len(sweep) == 9 * 2 * 2 + 2
    assert len({cell.name for cell in cells}) == len(cells)
    assert {cell.strategy for cell in cells if cell.kind == "solver"} == {"MGDA", "shares 0.5/0.25/0.25"}
    assert {cell.kind for cell in cells} == {"sweep", "solver", "bm25", "untrained"}
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    inside = {cell.steps for cell in sweep if cell.strategy == "0.5/0.4/0.1" and cell.settings.encoder.size == "1x32"}
    assert inside == {20, 40}
    only = next(cell for cell in sweep if cell.strategy == "effectiveness only")
    assert only.steps > 20  # it spends the other objectives' FLOPs, too
    shares = next(cell for cell in cells if cell.strategy.startswith("shares"))
    assert shares.settings.training.batch_sizes == {"effectiveness": 12, "ood": 6, "adversarial": 6}
    again, _ = sweep_cells(settings, DataSource(), collection, tmp_path)
    assert [cell.name for cell in again] == [cell.name for cell in cells]


def test_unknown_scale_of_strategies(collection, tmp_path) -> None:
    from mogrid.experiment.sweep import SweepSettings

    strategies = [{"size": "2x64", "pairs": 160}]
    with pytest.raises(ValueError, match="2x64"):
        SweepSettings.model_validate({**SETTINGS, "strategies": strategies})


def test_too_small_shares(collection, tmp_path) -> None:
    from mogrid.experiment.cells import DataSource
    from mogrid.experiment.sweep import SweepSettings, sweep_cells

    shares = [{"effectiveness": 0.96, "ood": 0.02, "adversarial": 0.02}]
    settings = SweepSettings.model_validate(
        {**SETTINGS, "strategies": [{"size": "1x32", "pairs": 160, "shares": shares}]}
    )
    with pytest.raises(ConfigError, match="2 are needed"):
        sweep_cells(settings, DataSource(), collection, tmp_path)


def test_leaks_are_counted_once_and_kept(collection, tmp_path, monkeypatch) -> None:
    from mogrid.training import leaks

    first = leaks.kept_leaks(collection, tmp_path)
    assert first.leaks > 0  # the fixture's other domains repeat the source's documents
    monkeypatch.setattr(leaks, "leak_report", None)
    assert leaks.kept_leaks(collection, tmp_path) == first
    monkeypatch.undo()
    (file,) = tmp_path.glob("leaks-*.json")
    file.write_text("{")
    assert leaks.kept_leaks(collection, tmp_path) == first

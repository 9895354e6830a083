"""The command as a stranger runs it: bad input is one line and exit code 2; an interrupted job goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.dpr import main
from tests.conftest import WORDS

ROOT = Path(__file__).parents[2]
PRESET = """
encoder: {size: 1x32, towers: 1, vocabulary: 200, max_length: 16, dropout: 0.1}
training: {budget: 1.0e9, batch_size: 8, learning_rate: 4.0e-3}
evaluation: {negatives: 16, redraws: 2, attack_targets: 5, attack_flips: 2, bootstrap: 50}
seeds: [0]
weights:
  - {effectiveness: 1}
  - {ood: 1}
  - {adversarial: 1}
  - {effectiveness: 0.8, ood: 0.1, adversarial: 0.1}
  - {effectiveness: 0.1, ood: 0.8, adversarial: 0.1}
  - {effectiveness: 0.1, ood: 0.1, adversarial: 0.8}
  - {effectiveness: 0.45, ood: 0.45, adversarial: 0.1}
  - {effectiveness: 0.45, ood: 0.1, adversarial: 0.45}
  - {effectiveness: 0.1, ood: 0.45, adversarial: 0.45}
  - {effectiveness: 0.34, ood: 0.33, adversarial: 0.33}
solvers:
  MGDA: {name: mgda}
workers: 2
"""


def domain(folder: Path, seed: int) -> None:
    """A searchable toy set: a document repeats its query's words."""
    rng = np.random.default_rng(seed)
    (folder / "qrels").mkdir(parents=True)
    queries, corpus = [], []
    for i in range(180):
        words = rng.choice(WORDS, 3, replace=False)
        queries.append({"_id": f"q{i}", "text": " ".join(words)})
        corpus.append(
            {"_id": f"d{i}", "title": "", "text": " ".join([*rng.permutation(words), *rng.choice(WORDS, 3), str(i)])}
        )
    (folder / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries))
    (folder / "corpus.jsonl").write_text("".join(json.dumps(d) + "\n" for d in corpus))
    for name, part in (("train", range(120)), ("dev", range(120, 150)), ("test", range(150, 180))):
        rows = "".join(f"q{i}\td{i}\t1\n" for i in part)
        (folder / "qrels" / f"{name}.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for i, name in enumerate(("main", "a", "b", "c", "d")):
        domain(folder / name, i)
    (folder / "domains.yaml").write_text(
        "source: {folder: main}\nood:\n  train: [{folder: a}, {folder: b}]\n  select: [{folder: c}]\n  test: [{folder: d}]\n"
    )
    (folder / "preset.yaml").write_text(PRESET)
    return folder


def command(data: Path, out: Path, *more: str) -> list[str]:
    return ["--config", str(data / "preset.yaml"), "--data", str(data), "--out", str(out), *more]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "cpuu"], "no preset 'cpuu'; did you mean 'cpu'"),
        (["--set", "solvers.MGDA.name=mgdaa"], "did you mean 'mgda'"),
        (["--set", "solvers.MGDA.normalize=l2"], "normalise"),
        (["--set", "training.budgett=3"], "unknown key 'training.budgett'; did you mean 'budget'"),
        (["--set", "training.budget=-1"], "training.budget: "),
        (["--budget", "1e4"], "buys 0 steps"),
        (["--preference", "effectiveness=2,ood=0,adversarial=1"], "ood: must be a positive number"),
        (["--preference", "effectiveness=2,oood=1,adversarial=1"], "did you mean 'ood'"),
        (["--preference", "effectiveness=2"], "no value for 'ood'"),
        (["--set", "weights=[{effectiveness: 0.5, ood: 0.2, adversarial: 0.2}]"], "sum to 0.9, not 1"),
        (["--set", "weights=[{effectiveness: 0.5, ood: 0.3, adversarial: 0.2}]"], "the surrogate needs 6"),
        (["--size", "2by128"], "LAYERSxWIDTH"),
        (["--pooling", "max"], "encoder.pooling"),
        (["--data", "/nonexistent"], "domains.yaml: cannot be read"),
        (["--encoder", "/nonexistent/model"], "cannot be loaded"),
        (["--set", "seeds=[1, 1]"], "seeds repeat"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(data, tmp_path, capsys, arguments, message) -> None:
    base = command(data, tmp_path / "out")
    code = main([*base, *arguments] if "--preset" not in arguments else [*arguments, "--out", str(tmp_path / "out")])
    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    assert not list((tmp_path / "out").glob("runs/*/run.json"))


def test_a_test_domain_in_training_is_refused(data, tmp_path, capsys) -> None:
    leak = tmp_path / "leak.yaml"
    leak.write_text((data / "domains.yaml").read_text().replace("[{folder: d}]", "[{folder: a}]"))
    assert main([*command(data, tmp_path / "out"), "--domains", str(leak)]) == 2
    assert "leak.yaml:5: 'a' is named as OOD train and as OOD test" in capsys.readouterr().err


def test_malformed_data_names_file_and_line(data, tmp_path, capsys) -> None:
    import shutil

    broken = tmp_path / "data"
    shutil.copytree(data, broken)
    with (broken / "c" / "corpus.jsonl").open("a") as file:
        file.write("{oops\n")
    assert main(command(broken, tmp_path / "out")) == 2
    assert "c/corpus.jsonl:181: not JSON" in capsys.readouterr().err


def test_a_nan_loss_names_objective_step_and_run(data, tmp_path, capsys) -> None:
    code = main([*command(data, tmp_path / "out"), "--set", "training.temperature=1.0e-300"])
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.count("\n") == 1
    assert any(name in captured.err for name in ("effectiveness", "ood", "adversarial"))
    assert "step" in captured.err


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children obey Ctrl-C even where this process was started in the background, with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_whole_job_then_interrupted_job_gives_the_same_numbers(data, tmp_path) -> None:
    """Ctrl-C in the middle, the same command again: every record is that of the undisturbed job."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    argv = [sys.executable, "-m", "benchmarks.dpr"]
    done = subprocess.run([*argv, *command(data, whole)], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("front.png", "front_test.png", "weights.png", "report.html", "experiment.json"):
        assert (whole / name).stat().st_size > 1000, name
    assert "Pareto training" in done.stdout
    page = (whole / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page

    process = subprocess.Popen(
        [*argv, *command(data, parts)], cwd=ROOT, env=environment(), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for _ in range(600):
        if len(list((parts / "runs").glob("*/run.json"))) >= 3:
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 3, error
    assert error.count("\n") == 1
    finished = len(list((parts / "runs").glob("*/run.json")))
    assert finished < len(list((whole / "runs").glob("*/run.json")))
    again = subprocess.run([*argv, *command(data, parts)], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    names = sorted(p.parent.name for p in (whole / "runs").glob("*/run.json"))
    assert names == sorted(p.parent.name for p in (parts / "runs").glob("*/run.json"))
    for name in names:
        a, b = (json.loads((folder / "runs" / name / "run.json").read_text()) for folder in (whole, parts))
        assert [r["means"] for r in a["results"]] == [r["means"] for r in b["results"]], name
        assert a["flops"] == b["flops"], name
        assert a["steps"] == b["steps"]
        if a["kind"] in ("sweep", "solver", "pareto"):
            assert (whole / "runs" / name / "steps.jsonl").read_bytes() == (
                parts / "runs" / name / "steps.jsonl"
            ).read_bytes()

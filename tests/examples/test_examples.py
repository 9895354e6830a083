"""Every example as a stranger runs it: a process of its own, no network, and what it prints got better."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ROW = re.compile(r"^(\w+) +(\d+\.\d{3}) +(\d+\.\d{3}) +(\d\.\d+)$", re.MULTILINE)


def run(name: str, folder: Path, launcher: list[str] | None = None) -> str:
    """Run an example in an empty folder and return what it printed."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "random", "TMPDIR": str(folder)}
    done = subprocess.run(
        [*(launcher or [sys.executable]), str(EXAMPLES / name)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def table(text: str) -> dict[str, tuple[float, float, float]]:
    """Return (loss before, loss after, last column) by objective."""
    return {name: (float(before), float(after), float(last)) for name, before, after, last in ROW.findall(text)}


def test_the_parser_reads_a_row() -> None:
    assert table("typos           3.520  0.188         0.43\nno row\n") == {"typos": (3.52, 0.188, 0.43)}


def test_plain_loop_balances_the_preferred_losses(tmp_path) -> None:
    text = run("plain_loop.py", tmp_path)
    rows = table(text)
    assert set(rows) == {"effectiveness", "ood", "adversarial"}
    assert all(after < before / 10 for before, after, _ in rows.values())
    # What the preference 4 : 4 : 1 asks for, up to a held-out batch's noise.
    scaled = [last for _, _, last in rows.values()]
    assert max(scaled) < 1.5 * min(scaled)
    assert rows["adversarial"][1] > 2 * rows["effectiveness"][1]
    weights = [
        [float(w) for w in re.findall(r"[a-z] (\d\.\d\d)", line)] for line in text.splitlines() if "weights" in line
    ]
    assert len(weights) == 4
    assert all(abs(sum(row) - 1) < 0.03 for row in weights)
    assert "cosine of effectiveness and ood -" in text  # they do conflict


def test_drop_in_learns_both_spellings(tmp_path) -> None:
    rows = table(run("drop_in.py", tmp_path))
    assert set(rows) == {"effectiveness", "typos"}
    assert all(after < before / 5 for before, after, _ in rows.values())
    assert all(0.1 < weight < 0.9 for *_, weight in rows.values())


def test_drop_in_shows_the_whole_difference() -> None:
    """Without the lines marked + and with those marked -, the script is sentence-transformers' own."""
    lines = (EXAMPLES / "drop_in.py").read_text("utf-8").splitlines()
    removed = "\n".join(line for line in lines if line.lstrip().startswith("# - "))
    for part in ("SentenceTransformerTrainer(", "train_dataset=pairs", "loss=MultipleNegativesRankingLoss(model)"):
        assert part in removed
    plain = "\n".join(
        line.replace("# - ", "", 1) if line.lstrip().startswith("# - ") else line
        for line in lines
        if not line.endswith("# +")
    )
    code = plain[plain.index("from sentence_transformers import") :]
    compile(code, "drop_in.py before", "exec")
    assert "Pareto" not in code


def test_multi_vector_learns_both_ways_of_asking(tmp_path) -> None:
    rows = table(run("multi_vector.py", tmp_path))
    assert set(rows) == {"questions", "telegrams"}
    assert all(after < before / 2 for before, after, _ in rows.values())
    assert abs(sum(weight for *_, weight in rows.values()) - 1) < 0.02


def test_adapters_learn_travel_and_keep_cooking(tmp_path) -> None:
    text = run("lora.py", tmp_path)
    found = re.search(r"adapters: (\d+) of (\d+) parameters; the rest unchanged: (\w+)", text)
    assert found
    assert 0 < int(found[1]) < 0.1 * int(found[2])
    assert found[3] == "True"
    assert "the same embeddings: True" in text
    rows = table(text)
    before, after, _ = rows["travel"]
    assert after < before / 4
    before, after, _ = rows["cooking"]
    assert after < before + 0.02


@pytest.mark.parametrize(
    "launcher", [None, pytest.param(TORCHRUN, marks=pytest.mark.slow)], ids=["one process", "two processes"]
)
def test_ranks_stay_equal_and_learn(tmp_path, launcher) -> None:
    text = run("two_gpus.py", tmp_path, launcher)
    assert f"{2 if launcher else 1} process(es) on cpu; parameters equal: True" in text
    rows = table(text)
    assert set(rows) == {"effectiveness", "ood"}
    assert all(after < before / 10 for before, after, _ in rows.values())
    assert text.count("held-out loss") == 1  # one rank prints


def test_each_is_short_and_listed_with_its_command() -> None:
    listed = (EXAMPLES / "README.md").read_text("utf-8")
    files = sorted(EXAMPLES.glob("*.py"))
    assert len(files) == 6
    for file in files:
        text = file.read_text("utf-8")
        assert len(text.splitlines()) < 80, file.name
        docstring = text.split('"""')[1]
        (command,) = re.findall(rf"`([^`]*python examples/{file.name}|torchrun [^`]*{file.name})`", listed)
        assert re.search(rf"^    {re.escape(command)}( |$)", docstring, re.M)

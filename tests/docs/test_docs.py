"""Every block of code in the documentation runs, every command parses, and the site builds without a warning."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from mogrid.cli import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
WITH_CODE = [page for page in PAGES if "```python" in page.read_text("utf-8")]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(page.read_text("utf-8")) if found == language]


@pytest.mark.parametrize("page", WITH_CODE, ids=[page.stem for page in WITH_CODE])
def test_code_runs(page: Path, tmp_path: Path) -> None:
    """The blocks of a page in order, in one process and namespace, as a reader would paste them."""
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page, "python")))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]


def commands() -> list[tuple[str, str]]:
    found = []
    for page in [*PAGES, ROOT / "README.md"]:
        for code in blocks(page, "sh"):
            for line in code.splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["mogrid"] and words[1:2] != ["--help"]:
                    found.append((page.name, line))
    return found


@pytest.mark.parametrize(("page", "line"), commands(), ids=[f"{page}-{i}" for i, (page, _) in enumerate(commands())])
def test_commands_parse(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    words = words[: words.index(">")] if ">" in words else words
    assert words[0] in COMMANDS, line
    parser = argparse.ArgumentParser(exit_on_error=False)
    import_module(f"mogrid.commands.{words[0]}").add_arguments(parser)
    _, unknown = parser.parse_known_args(words[1:])
    assert not unknown, f"{line}: {unknown}"


def test_benchmarks_that_are_named_are_there() -> None:
    for page in [*PAGES, ROOT / "README.md"]:
        for name in re.findall(r"python -m\s+benchmarks\.(\w+)", page.read_text("utf-8")):
            assert (ROOT / "benchmarks" / f"{name}.py").is_file(), f"{page.name}: {name}"


def test_the_reference_of_settings_names_every_key() -> None:
    from mogrid.training import TrainSettings

    schema = TrainSettings.model_json_schema()
    text = (ROOT / "docs" / "train.md").read_text("utf-8")
    keys = {key for part in (schema, *schema["$defs"].values()) for key in part.get("properties", {})}
    assert len(keys) > 30
    assert not [
        key for key in sorted(keys) if f"`{key}`" not in text and f".{key}`" not in text and key != "objectives"
    ]


def test_every_solver_loss_and_attack_is_real() -> None:
    from mogrid.objectives import LOSSES
    from mogrid.solvers import available

    text = (ROOT / "docs" / "train.md").read_text("utf-8")
    assert all(f"`{name}`" in text for name in LOSSES)
    table = (ROOT / "docs" / "solvers.md").read_text("utf-8").split("## ")[0]
    named = {name for row in table.splitlines() if row.startswith("|") for name in re.findall(r"`([a-z_0-9]+)`", row)}
    assert {"fixed", "mgda", "pareto_target"} <= named
    assert named <= {*available(), "objective_batch_sizes"}


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    api = (tmp_path / "site" / "api" / "index.html").read_text()
    for name in ("ParetoTrainer", "MGDA", "evaluate_retriever", "fit_laws", "PerturbationConsistency"):
        assert name in api
    assert json.loads((tmp_path / "site" / "search" / "search_index.json").read_text())["docs"]

"""Every block of code in the documentation runs, every command parses, every figure is on record, and the site builds."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from mogrid.cli import COMMANDS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
WITH_CODE = [page for page in PAGES if "```python" in page.read_text("utf-8")]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
FIGURE = re.compile(r"(?<![\d.\w])(\d?\.\d{2,3})(?!\d)")


def blocks(page: Path, *languages: str) -> list[str]:
    return [code for found, code in BLOCK.findall(page.read_text("utf-8")) if found in languages]


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text("utf-8"))


def run_page(page: Path, code: Sequence[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a page's blocks in order, in one namespace and an empty folder, as a reader would paste them."""
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    monkeypatch.chdir(folder)
    exec(compile("\n".join(code), page.name, "exec"), {"__name__": "__main__"})


# The README's own two blocks run in tests/test_readme.py.
@pytest.mark.parametrize("page", WITH_CODE, ids=[page.stem for page in WITH_CODE])
def test_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(page, blocks(page, "python"), tmp_path, monkeypatch)


def test_what_one_comes_from_does_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of the other libraries are marked py: they reach the same gradient."""
    page = ROOT / "docs" / "coming-from.md"
    code = blocks(page, "python", "py")
    assert len(code) > len(blocks(page, "python"))
    same = "torch.testing.assert_close(model.weight.grad, before, rtol=1e-4, atol=1e-6)"
    run_page(page, [*code, same], tmp_path, monkeypatch)


def commands() -> list[tuple[str, str]]:
    found = []
    for page in [*PAGES, README]:
        for line in "".join(blocks(page, "sh")).splitlines():
            words = shlex.split(line, comments=True)
            if (words[:1] == ["mogrid"] and words[1:2] != ["--help"]) or words[:2] == ["python", "-m"]:
                found.append((page.name, line))
    return found


@pytest.mark.parametrize(("page", "line"), commands(), ids=[f"{page}-{i}" for i, (page, _) in enumerate(commands())])
def test_commands_parse(page: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line, comments=True)
    words = words[: words.index(">")] if ">" in words else words
    if words[0] == "mogrid":
        assert words[1] in COMMANDS, line
        parser = argparse.ArgumentParser()
        import_module(f"mogrid.commands.{words[1]}").add_arguments(parser)
        parser.parse_args(words[2:])
    else:
        parse_only(words[2], words[3:], monkeypatch)


class _ParsedError(Exception):
    """Raised in place of what a benchmark would do next."""


def parse_only(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, given: Sequence[str] | None = None, *rest: object) -> None:
        real(self, given)
        raise _ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    with pytest.raises(_ParsedError):
        import_module(module).main(arguments)


def test_a_wrong_flag_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        parse_only("benchmarks.step", ["--no-such-flag"], monkeypatch)


def test_what_is_named_is_there() -> None:
    """Benchmarks in running text, make's targets, and files of the repository."""
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    for page in [*PAGES, README]:
        text = page.read_text("utf-8")
        for name in re.findall(r"python -m\s+benchmarks\.(\w+)", text):
            assert (ROOT / "benchmarks" / f"{name}.py").is_file(), f"{page.name}: {name}"
        for name in re.findall(r"`make (\w+)`", text):
            assert name in targets, f"{page.name}: make {name}"
        for name in re.findall(r"\b(?:benchmarks|tests|examples)/[\w./-]*\w", text):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_file_of_a_training_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mogrid.cli import main

    (example,) = blocks(ROOT / "docs" / "train.md", "yaml")
    path = tmp_path / "run.yaml"
    path.write_text(example)
    assert main(["train", str(path), "--print-config"]) == 0, capsys.readouterr().err
    printed = yaml.safe_load(capsys.readouterr().out)
    assert list(printed["objectives"]) == ["effectiveness", "ood", "typos"]


def test_the_reference_of_settings_names_every_key() -> None:
    from mogrid.training import Recipe

    schema = Recipe.model_json_schema()
    text = (ROOT / "docs" / "train.md").read_text("utf-8")
    keys = {key for part in (schema, *schema["$defs"].values()) for key in part.get("properties", {})}
    assert len(keys) > 30
    assert not [
        key for key in sorted(keys) if f"`{key}`" not in text and f".{key}`" not in text and key != "objectives"
    ]


def test_every_solver_and_loss_is_real() -> None:
    from mogrid.objectives import LOSSES
    from mogrid.solvers import available

    text = (ROOT / "docs" / "train.md").read_text("utf-8")
    assert all(f"`{name}`" in text for name in LOSSES)
    table = (ROOT / "docs" / "solvers.md").read_text("utf-8").split("## ")[0]
    named = {name for row in table.splitlines() if row.startswith("|") for name in re.findall(r"`([a-z_0-9]+)`", row)}
    assert {"fixed", "mgda", "pareto_target"} <= named
    assert named <= {*available(), "objective_batch_sizes"}
    theirs = prose(ROOT / "docs" / "coming-from.md").split("## LibMTL")[1].split("| `Trainer")[0]
    ours = [name for row in theirs.splitlines() for name in re.findall(r"`([a-z_]+)`", row.rpartition(" | ")[2])]
    assert len(ours) > 15
    assert set(ours) <= set(available())


def test_the_readme_is_a_newcomers_page() -> None:
    assert len(README.read_text("utf-8")) <= 9000


def rows(text: str) -> dict[str, list[str]]:
    """A Markdown page's table rows by their first cell; of equal first cells the last."""
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("|")]
    return {row[0]: row[1:] for row in cells}


def test_the_costs_of_the_maths_are_the_records() -> None:
    section = (ROOT / "docs" / "solvers.md").read_text("utf-8").split("## What the maths costs")[1].split("## ")[0]
    speed = json.loads((ROOT / "benchmarks" / "results" / "solvers.json").read_text())["speed"]
    shown = {name.strip("`"): cells for name, cells in rows(section).items() if name.startswith("`")}
    assert set(shown) == set(speed)
    for name, cells in shown.items():
        assert cells[:3] == [f"{speed[name][k]['mogrid_us']:.0f}" for k in ("3", "8", "32")], name
        times = speed[name]["8"].get("times_faster")
        if times is not None:
            assert cells[3] == f"{times:.{0 if times >= 10 else 1}f} ×", name


@pytest.mark.parametrize("name", ["coming-from"])
def test_every_figure_is_in_the_results_or_a_record(name: str) -> None:
    record = json.loads((ROOT / "benchmarks" / "results" / "step.json").read_text())
    ratios = {f"{row['ratio']:.2f}" for part in ("trainer", "shared") for row in record[part].values()}
    results = (ROOT / "docs" / "results.md").read_text("utf-8")
    known = {*FIGURE.findall(results), *ratios, *(ratio.lstrip("0") for ratio in ratios)}
    shown = FIGURE.findall(prose(ROOT / "docs" / f"{name}.md"))
    assert shown
    assert [figure for figure in shown if figure not in known] == []


def anchors(html: str) -> set[str]:
    """Names without their module: some are exported again, some share their module's name."""
    return {name.rpartition(".")[2] for name in re.findall(r'id="(mogrid\.[^"]*)"', html)}


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    documented = anchors((tmp_path / "site" / "api" / "index.html").read_text())
    names = re.findall(r"^## (mogrid\S*)", (ROOT / "docs" / "api.md").read_text("utf-8"), re.M)
    assert len(names) > 9
    for room in names:
        missing = set(import_module(room).__all__) - documented - {"__version__"}
        assert not missing, f"{room}: {sorted(missing)}"
    assert json.loads((tmp_path / "site" / "search" / "search_index.json").read_text())["docs"]

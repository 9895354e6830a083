"""Every block of code in the documentation runs, every command parses, every figure is on record, and the site builds."""

from __future__ import annotations

import argparse
import inspect
import json
import random
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from mogrid.cli import COMMANDS, main

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


@pytest.mark.parametrize("page", ["train.md", "tune.md"])
def test_the_file_of_a_training_is_valid(page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example, *_ = blocks(ROOT / "docs" / page, "yaml")
    path = tmp_path / "run.yaml"
    path.write_text(example)
    assert main(["train", str(path), "--print-config"]) == 0, capsys.readouterr().err
    printed = yaml.safe_load(capsys.readouterr().out)
    assert list(printed["objectives"]) == ["effectiveness", "ood", "typos"]


@pytest.mark.parametrize("number", [1, 2])
def test_sweeps_are_valid(number: int, tmp_path: Path, capsys) -> None:
    recipe, *sweeps = blocks(ROOT / "docs" / "budgets.md", "yaml")
    (tmp_path / "run.yaml").write_text(recipe)
    (tmp_path / "sweep.yaml").write_text(sweeps[number - 1])
    assert main(["sweep", str(tmp_path / "sweep.yaml"), "--print-config"]) == 0, capsys.readouterr().err


def test_the_reference_of_settings_names_every_key() -> None:
    from mogrid.sweep.grid import SweepSettings
    from mogrid.training import Recipe

    schema = Recipe.model_json_schema()
    text = (ROOT / "docs" / "train.md").read_text("utf-8")
    keys = {key for part in (schema, *schema["$defs"].values()) for key in part.get("properties", {})}
    assert len(keys) > 30
    assert not [
        key for key in sorted(keys) if f"`{key}`" not in text and f".{key}`" not in text and key != "objectives"
    ]
    sweep = (ROOT / "docs" / "budgets.md").read_text("utf-8")
    assert not [key for key in SweepSettings.model_json_schema()["properties"] if not re.search(rf"\b{key}[:=]", sweep)]


THINGS = ("invoice", "printer", "badge", "laptop", "holiday", "parking", "visitor", "desk", "keyboard", "contract")
ACTS = ("order", "return", "cancel", "renew", "report", "extend", "book", "replace")


def write_pairs(folder: Path, question: str, seed: int) -> None:
    """Write what the page's reader has: questions, and answers in words that a model has to learn.

    Everything is asked in two ways, about one house or another, and which is meant nobody can know: no loss comes to 0.
    """

    def code(word: str) -> str:
        return "".join(random.Random(word).choices(["zor", "bli", "tak", "mun", "pev", "dol"], k=3))

    rng = random.Random(seed)
    rows = [(act, thing) for act in ACTS for thing in THINGS]
    rng.shuffle(rows)
    folder.mkdir(parents=True)
    for split, part in (("train", rows[:56]), ("dev", rows[56:])):
        lines = []
        for act, thing in part:
            for ending, house in zip(("", " now"), rng.sample(["north", "south"], 2), strict=True):
                asked, answer = question.format(act, thing) + ending, f"{code(act)} {folder.name} {code(thing)} {house}"
                lines.append(json.dumps({"query": asked, "document": answer}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))


@pytest.mark.slow
def test_the_four_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """As the page says it: a new objective with its own data, swept over mixes of a thinned encoder, planned, trained."""
    page = ROOT / "docs" / "budgets.md"
    recipe, sweep, *_ = blocks(page, "yaml")
    write_pairs(tmp_path / "data" / "handbook", "How do I {} my {}", 0)
    write_pairs(tmp_path / "data" / "chat", "anyone knows how to {} a {} here", 1)
    (tmp_path / "run.yaml").write_text(recipe)
    (tmp_path / "sweep.yaml").write_text(sweep)
    monkeypatch.chdir(tmp_path)
    lines = blocks(page, "sh")[0].splitlines()
    assert [line.split()[1] for line in lines] == ["sweep", "plan", "train", "report"]
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, f"{line}: {capsys.readouterr().err}"
    assert "exchange rates" in capsys.readouterr().out
    planned = yaml.safe_load((tmp_path / "best.yaml").read_text())
    record = json.loads((tmp_path / "out" / "best" / "run.json").read_text())
    assert record["mix"] == pytest.approx({name: planned["mix"].get(name, 0.0) for name in ("handbook", "chat")})
    assert record["flops"]["total"] == pytest.approx(3e11, rel=0.1)
    assert (tmp_path / "runs" / "report.html").stat().st_size > 100_000
    assert (tmp_path / "out" / "best" / "model" / "README.md").is_file()


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
        exported = {name: getattr(import_module(room), name) for name in import_module(room).__all__}
        own = {name for name, found in exported.items() if inspect.isclass(found) or inspect.isfunction(found)}
        missing = own - documented
        assert not missing, f"{room}: {sorted(missing)}"
    assert json.loads((tmp_path / "site" / "search" / "search_index.json").read_text())["docs"]

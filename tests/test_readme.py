"""The README's code runs as it stands (with a tiny model in place of the Hub's: tests have no network)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def test_there_are_examples() -> None:
    assert len(BLOCKS) == 2


def test_drop_in_example(model, tmp_path, monkeypatch) -> None:
    import sentence_transformers

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", lambda name: model)
    before = model.encode("a curve")
    exec(compile(BLOCKS[0], "README.md", "exec"), {})
    steps = [json.loads(line) for line in (tmp_path / "out" / "steps.jsonl").read_text().splitlines()]
    assert {"loss/typos", "weight/effectiveness", "gradient_norm/typos", "cosine/effectiveness/typos"} <= set(steps[0])
    assert not (before == model.encode("a curve")).all()


def test_drop_in_example_with_a_mix_in_place_of_the_solver(model, tmp_path, monkeypatch) -> None:
    import sentence_transformers

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", lambda name: model)
    (mix,) = re.findall(r"`(mix=.*)` in place of the solver", (ROOT / "README.md").read_text("utf-8"))
    code, replaced = re.subn(r"solver=.*(?=,\n\))", mix, BLOCKS[0])
    assert replaced == 1
    scope: dict = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert scope["trainer"].mix.rows(5) == {"effectiveness": 3, "typos": 2}
    steps = [json.loads(line) for line in (tmp_path / "out" / "steps.jsonl").read_text().splitlines()]
    assert {"loss/effectiveness", "loss/typos"} <= set(steps[0])


def test_plain_loop_example() -> None:
    scope: dict = {}
    exec(compile(BLOCKS[1], "README.md", "exec"), scope)
    x = scope["x"].detach()
    # the front is the segment between the two minima, (-1, -1) and (1, 1)
    assert abs(float(x[0] - x[1])) < 1e-3
    assert abs(float(x.mean())) <= 1.001


@pytest.mark.parametrize(
    "path", re.findall(r"\]\(((?:benchmarks|docs|examples)/[^)#]+)\)?", (ROOT / "README.md").read_text("utf-8"))
)
def test_pictures_are_there(path) -> None:
    assert (ROOT / path).is_file()

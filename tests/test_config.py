"""Configuration: file, line and nearest name in one-line errors; overrides."""

from __future__ import annotations

import pytest
from pydantic import Field

from mogrid.config import Strict, YamlFile, override, parse_changes, read_yaml
from mogrid.errors import ConfigError


class Inner(Strict):
    name: str
    rate: float = Field(default=0.5, gt=0)


class Outer(Strict):
    solver: Inner
    steps: int = 10
    items: list[Inner] = Field(default_factory=list)


def test_words_are_no_booleans(tmp_path) -> None:
    """``judged: {on: ...}`` is a key of recipes, and PyYAML alone would read it as true."""
    (tmp_path / "a.yaml").write_text("on: [no, off, True]\nyes: false\n")
    assert read_yaml(tmp_path / "a.yaml").value == {"on": ["no", "off", True], "yes": False}
    assert override({}, ["judged.on=no", "bf16=true"]) == {"judged": {"on": "no"}, "bf16": True}


@pytest.mark.parametrize(("text", "number"), [("1e-4", 1e-4), ("5E15", 5e15), ("-.5e+1", -5.0), ("2.e3", 2000.0)])
def test_numbers_with_an_exponent_are_numbers(tmp_path, text, number) -> None:
    """YAML 1.1 wants a point and a sign in them, and makes words of all others."""
    (tmp_path / "a.yaml").write_text(f"rate: {text}\nname: 1e-4b\n")
    assert read_yaml(tmp_path / "a.yaml").value == {"rate": number, "name": "1e-4b"}
    assert parse_changes([f"rate={text}"]) == {"rate": number}


def test_reads(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("solver: {name: mgda}\nsteps: 3\n")
    assert read_yaml(tmp_path / "a.yaml").parse(Outer) == Outer(solver=Inner(name="mgda"), steps=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("solver: {name: x}\nstep: 3\n", r"a\.yaml:2: unknown key 'step'; did you mean 'steps'"),
        ("solver:\n  name: x\n  rat: 1\n", r"a\.yaml:3: unknown key 'solver\.rat'; did you mean 'rate'"),
        ("solver:\n  name: x\n  rate: -1\n", r"a\.yaml:3: solver\.rate: .*greater than 0, got -1"),
        ("steps: 3\n", r"a\.yaml:1: missing key 'solver'"),
        ("solver: {name: x}\nsteps: many\n", r"a\.yaml:2: steps: .*valid integer.*got 'many'"),
        ("solver: {name: x}\nsolver: {name: y}\n", r"a\.yaml:2: key 'solver' stands here twice"),
        ("solver: {name: x\n", r"a\.yaml:\d: not valid YAML"),
        ("- 1\n", r"a\.yaml:1: expected a mapping of settings, got list"),
        ("solver: {name: x}\nitems:\n  - {name: a}\n  - {nam: b}\n", r"a\.yaml:4: unknown key 'items\.1\.nam'"),
        ("solver: !!python/object/apply:os.system [ls]\n", r"a\.yaml:\d: not valid YAML"),
    ],
)
def test_errors_name_file_line_and_key(tmp_path, text, message) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(tmp_path / "a.yaml").parse(Outer)
    assert "\n" not in str(caught.value)


def test_missing_file_and_encoding(tmp_path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_yaml(tmp_path / "b.yaml")


def test_overrides_do_not_touch_the_original(tmp_path) -> None:
    value = {"solver": {"name": "mgda"}, "steps": 1}
    changed = override(value, ["solver.name=fixed", "steps=7", "solver.rate=0.25"])
    assert changed == {"solver": {"name": "fixed", "rate": 0.25}, "steps": 7}
    assert value == {"solver": {"name": "mgda"}, "steps": 1}
    assert YamlFile(tmp_path, changed, {}).parse(Outer).solver.rate == 0.25
    for wrong in ("steps", "=3", "steps=[1"):
        with pytest.raises(ConfigError, match="--set"):
            override(value, [wrong])

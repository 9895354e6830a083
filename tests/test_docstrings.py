"""What docstrings say: their examples run, and every documented parameter has words."""

from __future__ import annotations

import ast
import doctest
import re
from importlib import import_module
from itertools import zip_longest
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "mogrid"
FILES = sorted(ROOT.rglob("*.py"))
SHOWN = [path for path in FILES if ">>>" in path.read_text("utf-8")]


def name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", SHOWN, ids=name)
def test_examples_run(path: Path) -> None:
    result = doctest.testmod(import_module(name(path)))
    assert result.failed == 0


def wordless(path: Path) -> list[str]:
    """Return the parameters that a file's docstrings name and say nothing of."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        section = re.search(r"Parameters\n-+\n(.*?)(?=\n\n\S+\n-+\n|\Z)", ast.get_docstring(node) or "", re.S)
        lines = section[1].splitlines() if section else []
        for line, below in zip_longest(lines, lines[1:], fillvalue=""):
            if re.match(r"[\w*]", line) and not below.startswith("    "):
                found.append(f"{node.name}: {line}")
    return found


@pytest.mark.parametrize(
    "room", ["solvers", "gradients", "trainer", "objectives", "attacks", "runs", "frontier", "sweep"]
)
def test_parameters_have_words(room: str) -> None:
    assert [missing for path in sorted((ROOT / room).glob("*.py")) for missing in wordless(path)] == []


def test_a_parameter_without_words_is_found(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text(
        'def f(a, b):\n    """Say.\n\n    Parameters\n    ----------\n    a : int\n    b : int\n        Of c.\n    """\n'
    )
    assert wordless(path) == ["f: a : int"]

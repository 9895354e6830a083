"""The house, read from its imports, those inside functions too: arrows go down, in no circle, and stand at the top."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent / "mogrid"

ROOMS = (
    "errors", "construct", "files", "config", "flops", "progress",  # the ground
    "solvers", "gradients", "trainer", "data", "retrieval", "objectives", "attacks", "evaluation", "runs", "frontier",
    "report", "training", "sweep", "tune", "cli", "commands", "__main__",
)  # fmt: skip
"""From the ground up: a room imports those before it."""

LATE = {
    "faiss": "loads OpenMP of its own; only searches need it",
    "cvxpy": "1.4 seconds, for programmes that most solvers do not pose",
    "pymoo": "seconds, for fronts alone",
    "moocore": "compiled, for hypervolumes alone",
    "matplotlib": "a second, for figures alone",
    "ray": "an extra",
    "spellchecker": "an extra",
    "ir_datasets": "an extra",
    "peft": "two seconds, for adapters alone",
    "bm25s": "numba where it is installed",
    "datasketch": "for near-duplicates alone",
    "ir_measures": "imports every provider of measures",
    "jinja2": "for HTML alone",
    "markupsafe": "jinja2's",
    "scipy": "solvers work with torch and numpy alone; laws import fast",
    "datasets": "a second and pandas, where most of a room does without",
    "pyarrow": "pandas' and datasets'",
    "transformers": "seconds; solvers, engines and the ledger work in any PyTorch loop",
    "sentence_transformers": "as transformers",
}
"""What may be imported inside a function below the commands, and why. Modules of mogrid itself never are."""


class Import(NamedTuple):
    """Module `source` imports module `target` (whole names) in a line; late in a function, typed for checkers alone."""

    source: str
    target: str
    line: int
    late: bool
    typed: bool


def read(root: Path) -> list[Import]:
    """Return every import of a package's modules; ``from p import m`` of a module m is an import of p.m."""
    files = {_name(path, root): path for path in sorted(root.rglob("*.py"))}
    return [found for name, path in files.items() for found in _imports(name, ast.parse(path.read_text()), set(files))]


def _name(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")


def _imports(
    source: str, node: ast.AST, modules: set[str], late: bool = False, typed: bool = False
) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(source, alias.name, child.lineno, late, typed)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{source}:{child.lineno}: a relative import"
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                yield Import(source, inner if inner in modules else str(child.module), child.lineno, late, typed)
        inside = late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        checked = typed or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
        yield from _imports(source, child, modules, inside, checked)


def room(module: str) -> str:
    """Return the first part below the package; the package itself is no room."""
    return module.split(".")[1] if "." in module else ""


def upward(imports: list[Import], rooms: tuple[str, ...]) -> list[str]:
    """Return what goes from a room to one above it, types included: a type, too, is knowledge of another room."""
    package = imports[0].source.split(".")[0]
    return [
        f"{i.source}:{i.line} imports {i.target}"
        for i in imports
        if i.target.split(".")[0] == package and room(i.source) and room(i.target)
        if rooms.index(room(i.target)) > rooms.index(room(i.source))
    ]


def circles(imports: list[Import]) -> list[str]:
    """Return the modules that import themselves by way of others."""
    package = imports[0].source.split(".")[0]
    graph: dict[str, set[str]] = {}
    for i in imports:
        if i.target.split(".")[0] == package and not i.typed:
            graph.setdefault(i.source, set()).add(i.target)
    found = []
    for start in graph:
        seen, open_ = set(), [start]
        while open_:
            for target in graph.get(open_.pop(), set()) - seen:
                seen.add(target)
                open_.append(target)
        if start in seen:
            found.append(start)
    return found


IMPORTS = read(ROOT)


def test_every_module_has_a_room() -> None:
    assert {room(i.source) for i in IMPORTS} - {""} <= set(ROOMS)
    for name in ROOMS:
        assert (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file(), name


def test_arrows_go_down() -> None:
    assert upward(IMPORTS, ROOMS) == []


def test_nothing_goes_in_circles() -> None:
    assert circles(IMPORTS) == []


def test_imports_stand_at_the_top() -> None:
    late = [i for i in IMPORTS if i.late and not i.typed and room(i.source) not in ("commands", "cli")]
    wrong = [f"{i.source}:{i.line} imports {i.target}" for i in late if i.target.split(".")[0] not in LATE]
    assert wrong == []
    assert set(LATE) <= {i.target.split(".")[0] for i in late}, "nobody imports these late any more"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("solvers", {"errors", "construct", "solvers"}),  # pure maths: works alone in anybody's loop
        ("frontier", {"errors", "frontier"}),  # numbers only: no text, no tensor of a model, no store
        ("gradients", {"errors", "construct", "flops", "solvers", "gradients"}),
    ],
)
def test_what_a_room_knows_of_the_house(name: str, allowed: set[str]) -> None:
    known = {room(i.target) for i in IMPORTS if room(i.source) == name and i.target.startswith("mogrid.")}
    assert known <= allowed


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("mogrid", set()),
        ("mogrid.cli", set()),
        ("mogrid.solvers", {"torch", "numpy"}),
        ("mogrid.gradients", {"torch", "numpy"}),
    ],
)
def test_what_comes_with_an_import(module: str, allowed: set[str]) -> None:
    """Of the packages that take time; torch brings some of its own."""
    code = f"import sys; import {module}; print(' '.join(sorted(set(sys.argv[1:]) & set(sys.modules))))"
    heavy = ["torch", "numpy", "pydantic", "yaml", "rich", *sorted(LATE)]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= allowed


def test_the_reader_reads(tmp_path: Path) -> None:
    """Late imports, types and circles of a small house of three rooms, so that a rule above can fail."""
    package = tmp_path / "inn"
    for name, text in {
        "__init__": "",
        "cellar": "def f():\n    from inn import roof\n    import faiss\n",
        "hall/__init__": "from inn.hall.a import x\n",
        "hall/a": "import inn.cellar\nif TYPE_CHECKING:\n    from inn.roof import y\n",
        "roof": "from inn.hall.a import x\nclass C:\n    def f(self):\n        import os\n",
    }.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    imports = read(package)
    assert Import("inn.cellar", "faiss", 3, True, False) in imports
    assert Import("inn.roof", "os", 4, True, False) in imports
    assert Import("inn.hall.a", "inn.roof", 3, False, True) in imports
    assert upward(imports, ("cellar", "hall", "roof")) == [
        "inn.cellar:2 imports inn.roof",
        "inn.hall.a:3 imports inn.roof",
    ]
    assert circles(imports) == ["inn.cellar", "inn.hall.a", "inn.roof"]

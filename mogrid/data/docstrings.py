"""Out-of-domain data from the docstrings of installed libraries: summary → body. Sources are parsed, never imported."""

from __future__ import annotations

import ast
import gc
import hashlib
import re
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from mogrid.data.domain import Domain, Role, Split
from mogrid.errors import DataError

__all__ = ["cut", "docstring_domain"]

_MIN_SUMMARY_WORDS, _MAX_SUMMARY_WORDS, _MIN_BODY_WORDS = 3, 40, 20
# Copies of other libraries, and text that documents nothing.
_SKIPPED = {"tests", "test", "testing", "externals", "_vendor", "vendor", "site-packages", "idlelib", "lib2to3", "_lib"}
_UNDERLINE = re.compile(r"^\s*[-=~^*]{3,}\s*$", re.MULTILINE)


def docstring_domain(library: str, package: str, role: Role, *, limit: int) -> Domain:
    """Build a domain from a library's public functions, classes and methods.

    Parameters
    ----------
    library : str
        Name of the distribution, or ``"stdlib"``.
    package : str
        Folder of its sources.
    role : Role
        Of the only split.
    limit : int
        Pairs kept, chosen by a hash of their name.

    Raises
    ------
    DataError
        The library is not installed, or holds no docstring that can be split.
    """
    found: dict[str, tuple[str, str]] = {}
    summaries: set[str] = set()
    bodies: set[str] = set()
    for name, docstring in _docstrings(_root(library, package)):
        pair = _split(docstring)
        # Inherited and generated docstrings repeat; a repeated summary has no one right answer.
        if pair and pair[0].lower() not in summaries and pair[1] not in bodies:
            summaries.add(pair[0].lower())
            bodies.add(pair[1])
            found[name] = pair
    if not found:
        raise DataError(f"{library}: no docstring with a summary and a body found in its sources")
    kept = sorted(sorted(found, key=lambda name: hashlib.sha256(name.encode()).digest())[:limit])
    split = Split(
        role=role,
        queries={f"q:{name}": found[name][0] for name in kept},
        qrels={f"q:{name}": {name: 1} for name in kept},
    )
    return Domain(library, {name: found[name][1] for name in kept}, {role: split})


def _root(library: str, package: str) -> Path:
    if library == "stdlib":
        return Path(sysconfig.get_path("stdlib"))
    try:
        root = Path(str(metadata.distribution(library).locate_file(package)))
    except metadata.PackageNotFoundError:
        raise DataError(f"{library} is not installed: pip install 'mogrid[bench]'") from None
    return root


def _docstrings(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (module.qualified name, docstring), in order of path and line."""
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root).with_suffix("")
        if _SKIPPED & set(relative.parts):
            continue
        try:
            with _uncollected():
                tree = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, ValueError, OSError):
            continue  # templates and files of other Python versions lie among the sources
        yield from _definitions(tree, ".".join((root.name, *relative.parts)))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector out: it looks through a growing tree again and again, half of all the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or child.name.startswith("_"):
            continue
        name = f"{prefix}.{child.name}"
        docstring = ast.get_docstring(child)
        if docstring:
            yield name, docstring
        if isinstance(child, ast.ClassDef):
            yield from _definitions(child, name)


def _split(docstring: str) -> tuple[str, str] | None:
    """Return (summary, body) of a docstring that has both."""
    summary, _, body = docstring.partition("\n\n")
    summary = " ".join(summary.split())
    body = cut(" ".join(_UNDERLINE.sub(" ", body).split()))
    if not _MIN_SUMMARY_WORDS <= len(summary.split()) <= _MAX_SUMMARY_WORDS or len(body.split()) < _MIN_BODY_WORDS:
        return None
    return summary, body


def cut(text: str, characters: int = 1200) -> str:
    """Cut a text at a word's end: a passage is what is searched, and no encoder here reads further."""
    return text if len(text) <= characters else text[:characters].rsplit(" ", 1)[0]

"""Packages are the same bytes each time they are built, and hold what they should."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytest.importorskip("build")
pytest.importorskip("hatchling")


def build(source: Path, out: Path, *what: str) -> dict[str, Path]:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), *what, str(source)]
    subprocess.run(command, check=True, capture_output=True, env=environment, text=True)
    return {"".join(path.suffixes[-1:]): path for path in out.iterdir() if path.suffix in (".whl", ".gz")}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> list[dict[str, Path]]:
    """Built twice, from copies made at other times in other places."""
    found = []
    for number in range(2):
        folder = tmp_path_factory.mktemp(f"build{number}")
        copy = folder / f"source{number}"
        ignored = shutil.ignore_patterns(
            ".git", ".venv*", "results", "__pycache__", ".*_cache", "dist", "site", ".hypothesis"
        )
        shutil.copytree(ROOT, copy, ignore=ignored)
        found.append(build(copy, folder / "dist"))
    return found


@pytest.mark.slow
def test_the_same_bytes(packages) -> None:
    first, second = packages
    assert set(first) == {".whl", ".gz"}
    assert {kind: digest(path) for kind, path in first.items()} == {kind: digest(path) for kind, path in second.items()}


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(packages) -> None:
    names = zipfile.ZipFile(packages[0][".whl"]).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"mogrid"}
    assert "mogrid/py.typed" in names
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "mogrid").rglob("*.py")}
    assert there <= set(names)
    assert not [name for name in names if name.endswith((".jsonl", ".safetensors", ".gz", ".pt"))]


@pytest.mark.slow
def test_the_source_makes_the_same_wheel(packages, tmp_path) -> None:
    with tarfile.open(packages[0][".gz"]) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    assert (folder / "tests" / "packaging" / "test_build.py").is_file()
    wheel = build(folder, tmp_path / "dist", "--wheel")[".whl"]
    assert digest(wheel) == digest(packages[0][".whl"])

"""The lock pins everything that make installs, and what is installed is what it says."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
LOCK = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
STAMPS = (".bench", ".test", ".docs", ".dev")


def locked(python: str) -> dict[str, Requirement]:
    """Return the pins that hold on Linux for a Python such as 3.12, by canonical name."""
    where = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux"}
    where |= {"platform_machine": "x86_64"}
    pins = [Requirement(line) for line in LOCK]
    return {canonicalize_name(pin.name): pin for pin in pins if pin.marker is None or pin.marker.evaluate(where)}


def roots() -> list[Requirement]:
    """Return what pyproject asks for: all extras, and the build's requirements with what hatchling adds to them."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    project = content["project"]
    asked = [*project["dependencies"], *content["build-system"]["requires"], "editables"]
    asked += [line for extra in project["optional-dependencies"].values() for line in extra]
    return [requirement for line in asked if (requirement := Requirement(line)).name != "mogrid"]


def needed(requirement: Requirement, seen: set[tuple[str, str]]) -> Iterator[tuple[str, str | None]]:
    """Yield (name, installed version or None) of a requirement, and of all that it needs in its turn."""
    name = canonicalize_name(requirement.name)
    for extra in ("", *requirement.extras):
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            yield name, None
            continue
        yield name, found.version
        for line in found.requires or ():
            further = Requirement(line)
            if further.marker is None or further.marker.evaluate({"extra": extra}):
                yield from needed(further, seen)


def unlocked(asked: list[Requirement], pins: dict[str, Requirement]) -> list[str]:
    """Return what is wrong with the closure of requirements: not pinned, or there in another version."""
    seen: set[tuple[str, str]] = set()
    wrong = set()
    for requirement in asked:
        for name, version in needed(requirement, seen):
            if name == "pip" or re.match("cuda|nvidia|triton", name):  # of the interpreter; of a machine's own torch
                continue
            if name not in pins:
                wrong.add(f"{name} is not in the lock")
            elif version is not None and not pins[name].specifier.contains(version, prereleases=True):
                wrong.add(f"{name} {version}: the lock says {pins[name].specifier}")
    return sorted(wrong)


@pytest.mark.parametrize("line", LOCK)
def test_a_line_is_one_version_from_no_place(line: str) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[\w.!]+( ; [^@]+)?", line)
    assert not re.match("cuda|nvidia|triton", line)


@pytest.mark.parametrize("python", PYTHONS)
def test_all_that_pyproject_asks_for_is_pinned_within_its_range(python: str) -> None:
    pins = locked(python)
    for requirement in roots():
        (pin,) = pins[canonicalize_name(requirement.name)].specifier
        assert requirement.specifier.contains(pin.version), requirement


def test_what_is_installed_is_what_the_lock_says() -> None:
    """In an environment that make made; anything may be beside it there, and another environment may hold anything."""
    if not any((Path(sys.prefix) / stamp).exists() for stamp in STAMPS):
        pytest.skip("not an environment that make installed")
    assert unlocked(roots(), locked("{}.{}".format(*sys.version_info))) == []


def test_a_gap_and_another_version_are_found() -> None:
    there = needed(Requirement("pytest"), set())
    pins = {name: Requirement(f"{name}=={version}") for name, version in there if version is not None}
    del pins["pluggy"]
    pins["iniconfig"] = Requirement("iniconfig==0.0.1")
    assert [line.split()[0] for line in unlocked([Requirement("pytest")], pins)] == ["iniconfig", "pluggy"]

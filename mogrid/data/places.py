"""Where data lies: folders and files by name, compressed or not, and what is said when a name is wrong.

A name that a configuration gives stays below its folder: `..` and absolute paths are refused. Symbolic links are
followed wherever they lead: what lies in the user's own folder is the user's own doing, and caches are made of links.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from mogrid.errors import ConfigError, DataError, nearest

__all__ = ["below", "existing", "located", "names"]


def existing(path: Path | str) -> Path:
    """Return a path that is there.

    Raises
    ------
    DataError
        It is not: names the part of the path that is missing, and what is there by nearly that name.
    """
    path = Path(path).expanduser()
    try:
        if path.exists():
            return path
        missing = next(part for part in (*reversed(path.parents), path) if not part.exists())
        close = difflib.get_close_matches(missing.name, [other.name for other in missing.parent.iterdir()], n=1)
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, with a null byte, a loop of links
        raise DataError(f"{str(path)!r} names no file or folder ({error})") from error
    hint = f"; did you mean {str(missing.parent / close[0])!r}?" if close else ""
    where = f" ({missing.parent} has no {missing.name!r})" if missing != path else ""
    raise DataError(f"{path}: no such file or folder{where}{hint}")


def below(root: Path, name: str) -> Path:
    """Return the folder or file of a name below a data folder, through links as they are.

    Raises
    ------
    ConfigError
        The name is absolute, is the folder itself, holds ``..``, or cannot be a name.
    DataError
        There is none; says the nearest name.
    """
    if not _stays(name) or not PurePath(name).parts:
        raise ConfigError(f"{name!r} leaves the data folder {root}")
    existing(root)
    try:
        there = (root / name).exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{name!r} names no file or folder ({error})") from error
    if not there:
        known = [other.name for other in root.iterdir() if not other.name.startswith(".")]
        raise DataError(f"no file or folder {name!r} in {root}{nearest(name, known)}")
    return root / name


def _stays(name: str) -> bool:
    path = PurePath(name)
    return not path.is_absolute() and ".." not in path.parts


def located(folder: Path, patterns: str | Iterable[str], name: str = "") -> Path:
    """Return the file of a folder that one of the patterns means, ``*`` replaced by a name; or its ``.gz``.

    Raises
    ------
    DataError
        There is none, or more than one, or the name leads out of the folder; names that would have been right are
        those for which the folder holds a file.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    if not _stays(name):
        raise DataError(f"{name!r} leaves the folder {folder}")
    candidates = [folder / pattern.replace("*", name) for pattern in patterns]
    try:
        found = [file for path in candidates for file in _with_gz(path) if file.is_file()]
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{folder}: {name!r} names no file ({error})") from error
    if len(found) > 1 and found[0].with_name(f"{found[0].name}.gz") != found[1]:
        raise DataError(
            f"{folder}: both {found[0].name!r} and {found[1].name!r} are there; name the kind, or remove one"
        )
    if found:
        return found[0]
    hint = nearest(name, names(folder, patterns)) if "*" in patterns[0] else ""
    raise DataError(f"{candidates[0]}: no such file{hint}")


def _with_gz(path: Path) -> Iterator[Path]:
    yield path
    yield path.with_name(f"{path.name}.gz")


def names(folder: Path, patterns: str | Iterable[str]) -> list[str]:
    """Return what ``*`` stands for in the files of a folder, compressed or not."""
    found = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        before, _, after = (folder / pattern).name.partition("*")
        for path in _with_gz(folder / pattern):
            for file in path.parent.glob(path.name):
                found.add(file.name.removesuffix(".gz").removeprefix(before).removesuffix(after))
    return sorted(found)

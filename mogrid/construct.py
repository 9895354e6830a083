"""One way from what a configuration says, a name or a name with settings, to the thing that it stands for.

Apart from `mogrid.config`, whose pydantic would triple the time that importing the solvers takes.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from mogrid.errors import ConfigError, MogridError, nearest

__all__ = ["build", "checked", "construct", "named", "settings_of"]

M = TypeVar("M")
Spec = str | Mapping[str, Any]


def construct(
    registry: Mapping[str, Callable[..., M]],
    spec: Spec,
    *given: Any,
    what: str,
    key: str = "name",
    error: type[MogridError] = ConfigError,
    **more: Any,
) -> M:
    """Make what a name, or a mapping of a name and settings, stands for.

    Parameters
    ----------
    registry : mapping of str to callable
        By the name that configurations use. The keywords of a callable are its settings.
    spec : str or mapping
        ``"sketch"``, or ``{"mode": "sketch", "size": 1024}``. Names are found in any case, with any or no separators,
        and by the name of their class: ``cagrad``, ``CAGrad``, ``nash-mtl``, ``NashMTL``.
    *given, **more
        Arguments that the caller has and no configuration may set: a model, say.
    what : str
        What is named, for messages: "solver", "loss".
    key : str
        Where a mapping has the name.
    error : type
        What is raised where the name, or a setting's name or type, is wrong.

    Raises
    ------
    MogridError
        An unknown name or setting (the nearest is named), a missing one, or a value of the wrong type or out of range.
    """
    name, settings = named(registry, spec, what=what, key=key, error=error)
    return build(registry[name], settings, *given, label=f"{what} {name}", error=error, **more)


def named(
    registry: Mapping[str, Callable[..., Any]],
    spec: Spec,
    *,
    what: str,
    key: str = "name",
    error: type[MogridError] = ConfigError,
) -> tuple[str, dict[str, Any]]:
    """Return a specification's name as the registry spells it, and its settings, as yet unchecked."""
    if isinstance(spec, str):
        name, settings = spec, {}
    elif isinstance(spec, Mapping):
        settings = dict(spec)
        if key not in settings:
            raise error(f"{what}: settings need {key!r}, got {', '.join(map(repr, settings)) or 'none'}")
        name = settings.pop(key)
    else:
        raise error(f"{what}: expected a name or a mapping with {key!r}, got {spec!r}")
    if name in registry:
        return name, settings
    plain = _plain(str(name))
    for known, make in registry.items():
        if plain and plain in (_plain(known), _plain(getattr(make, "__name__", ""))):
            return known, settings
    raise error(f"unknown {what} {name!r}{nearest(str(name), registry)}")


def build(
    make: Callable[..., M],
    settings: Mapping[str, Any],
    *given: Any,
    label: str,
    error: type[MogridError] = ConfigError,
    **more: Any,
) -> M:
    """Call something with settings that were checked; parameters and errors as of `construct`."""
    kept = checked(make, settings, label=label, taken=len(given), more=more, error=error)
    try:
        return make(*given, **more, **kept)
    except TypeError as wrong:
        if not kept:
            raise
        shown = ", ".join(f"{name} {value!r}" for name, value in kept.items())
        raise error(f"{label}: of {shown}, one has the wrong type ({wrong})") from wrong


def checked(
    make: Callable[..., Any],
    settings: Mapping[str, Any],
    *,
    label: str,
    taken: int = 0,
    more: Collection[str] = (),
    also: Collection[str] = (),
    error: type[MogridError] = ConfigError,
) -> dict[str, Any]:
    """Return settings whose names and plain types fit the keywords of what is to be made.

    Parameters
    ----------
    make : callable
        Whose keywords are the settings.
    settings : mapping
        As a configuration gives them.
    label : str
        What messages begin with: "loss fgm".
    taken : int
        How many of the first parameters the caller fills.
    more : collection of str
        Parameters that the caller gives by name.
    also : collection of str
        Names that are known to be right without being parameters; they are left out of the result.
    error : type
        What is raised.
    """
    parameters = settings_of(make, taken, more)
    result = {}
    for name, value in settings.items():
        if name in parameters:
            result[name] = _fitting(value, parameters[name].annotation, f"{label}: {name}", error)
        elif name not in also:
            raise error(f"{label}: no setting {name!r}{nearest(str(name), [*parameters, *also])}")
    missing = [name for name, p in parameters.items() if p.default is p.empty and name not in settings]
    if missing:
        raise error(f"{label}: the setting {missing[0]!r} is missing")
    return result


def settings_of(make: Callable[..., Any], taken: int = 0, more: Collection[str] = ()) -> dict[str, inspect.Parameter]:
    """Return the parameters that a configuration may set, with evaluated annotations where these can be had."""
    try:
        signature = inspect.signature(make, eval_str=True)
    except (NameError, AttributeError):  # a name that only type checkers import
        signature = inspect.signature(make)
    own = list(signature.parameters.values())[taken:]
    return {p.name: p for p in own if p.name not in more and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _fitting(value: Any, kind: Any, label: str, error: type[MogridError]) -> Any:
    """Return a value that fits an annotation; only plain annotations are checked, the rest is up to what is made."""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    names = [name for option in options for name in _names(option)]
    if isinstance(value, str) and names and str not in options:
        if value not in names:
            raise error(f"{label} {value!r} is unknown{nearest(value, map(str, names))}")
        return next((o(value) for o in options if isinstance(o, type) and issubclass(o, Enum)), value)
    if isinstance(value, str) and float in options and str not in options:
        with suppress(ValueError):
            value = float(value)  # YAML reads 1e-3 as text
    if isinstance(value, float) and not math.isfinite(value):
        raise error(f"{label} must be a finite number, got {value!r}")
    if not any(_fits(value, option) for option in options):
        raise error(f"{label} must be {' or '.join(map(_words, options))}, got {value!r}")
    return value


def _names(kind: Any) -> list[Any]:
    """Return the values that an annotation lists."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [member.value for member in kind]
    return list(get_args(kind)) if get_origin(kind) is Literal else []


def _fits(value: Any, kind: Any) -> bool:
    if kind in (float, int):
        return isinstance(value, Real if kind is float else Integral) and not isinstance(value, bool)
    if kind in (str, bool, NoneType):
        return isinstance(value, kind)
    if names := _names(kind):
        return value in names
    if get_origin(kind) is Sequence:
        return isinstance(value, Sequence) and not isinstance(value, str)
    return True


def _words(kind: Any) -> str:
    if names := _names(kind):
        return " or ".join(map(repr, names))
    if get_origin(kind) is Sequence:
        return "a list"
    return {float: "a number", int: "a whole number", str: "text", bool: "true or false"}.get(kind, "left out")

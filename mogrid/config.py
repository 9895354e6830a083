"""Typed configuration from YAML: errors name file, line and key, and suggest the nearest known name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mogrid.errors import ConfigError, nearest

__all__ = ["Strict", "YamlFile", "override", "parse_changes", "read_yaml"]

Location = tuple[str | int, ...]
T = TypeVar("T", bound="Strict")


class Strict(BaseModel):
    """Base of typed settings: unknown keys are errors, values are checked, numbers finite; nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class YamlFile:
    """A YAML document's values, with the line each one stands on.

    Attributes
    ----------
    path : Path
    value : Any
        What the document holds; plain types only, aliases to code do not exist in safe YAML.
    """

    def __init__(self, path: Path, value: Any, lines: Mapping[Location, int]) -> None:
        self.path = path
        self.value = value
        self.lines = lines

    def place(self, location: Sequence[str | int]) -> str:
        """Return ``file:line`` of a key, or of the nearest enclosing one that stands in the file."""
        parts = tuple(location)
        while parts and parts not in self.lines:
            parts = parts[:-1]
        return f"{self.path}:{self.lines.get(parts, 1)}"

    def parse(self, settings: type[T]) -> T:
        """Check the values against typed settings.

        Raises
        ------
        ConfigError
            One line: place, key, what is wrong, what would be right.
        """
        if not isinstance(self.value, dict):
            raise ConfigError(f"{self.path}:1: expected a mapping of settings, got {type(self.value).__name__}")
        try:
            return settings.model_validate(self.value)
        except ValidationError as error:
            raise ConfigError(self._explain(error, settings)) from error

    def _explain(self, error: ValidationError, settings: type[BaseModel]) -> str:
        # A mistyped key is both unknown and missing: its line is where it stands, not where it should.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        location = tuple(first["loc"])
        key = ".".join(str(part) for part in location)
        place = self.place(location)
        if first["type"] == "extra_forbidden":
            return f"{place}: unknown key {key!r}{nearest(str(location[-1]), _known(settings, location[:-1]))}"
        if first["type"] == "missing":
            return f"{place}: missing key {key!r}"
        message = first["msg"].removeprefix("Value error, ")
        if not location:  # of several keys together: the message names one, and its line is the place
            named = tuple(message.partition(":")[0].partition(" ")[0].split("."))
            return f"{self.place(named)}: {message}"
        said = f"{place}: {key}: {message[:1].lower()}{message[1:]}"
        given = repr(first["input"])
        if isinstance(first["input"], Mapping) and first["type"] == "value_error":  # of several keys together
            return said
        return f"{said}, got {given if len(given) < 80 else f'{given[:77]}...'}"


def _known(settings: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Return the keys that would have been right at this place."""
    current: Any = settings
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            current = current.model_fields[part].annotation if part in current.model_fields else None
        else:
            current = next(iter(get_args(current)[-1:]), None)  # what a list or a dict holds
        options = [current, *get_args(current)] if get_origin(current) in (Union, UnionType) else [current]
        models = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        current = models[0] if models else current
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


class _Loader(yaml.SafeLoader):
    """Safe YAML as in 1.2: ``true`` and ``false`` alone are booleans, ``on`` and ``no`` words, ``1e-4`` is a number."""


_BOOL, _FLOAT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != _BOOL]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_EXPONENT = re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+.0123456789"))


def read_yaml(path: Path | str) -> YamlFile:
    """Read a YAML file safely.

    Raises
    ------
    ConfigError
        The file is missing, is not UTF-8 or not YAML, or repeats a key; with ``file:line``.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not UTF-8 at byte {error.start}"
        raise ConfigError(f"{path}: cannot be read ({reason})") from error
    try:
        node = yaml.compose(text, Loader=_Loader)
        value = _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML ({getattr(error, 'problem', None) or error})") from error
    lines: dict[Location, int] = {}
    if node is not None:
        _collect_lines(node, (), lines, path)
    return YamlFile(path, {} if value is None else value, lines)


def _collect_lines(
    node: yaml.Node, location: Location, lines: dict[Location, int], path: Path, above: tuple[yaml.Node, ...] = ()
) -> None:
    if any(node is other for other in above):
        raise ConfigError(f"{path}:{node.start_mark.line + 1}: an alias refers to what it stands in")
    above = (*above, node)
    lines.setdefault(location, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*location, key.value)
            if inner in lines:
                raise ConfigError(f"{path}:{key.start_mark.line + 1}: key {key.value!r} stands here twice")
            lines[inner] = key.start_mark.line + 1
            _collect_lines(value, inner, lines, path, above)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _collect_lines(item, (*location, i), lines, path, above)


def parse_changes(settings: Sequence[str]) -> dict[str, Any]:
    """Return ``key.inner=YAML`` settings of a command line by dotted key.

    Raises
    ------
    ConfigError
        A setting without ``=``, or whose value is no YAML.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {setting!r}: expected KEY=VALUE, such as solver.name=mgda")
        try:
            found[key] = _Loader(text).get_single_data()
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {setting!r}: {text!r} is not a YAML value") from error
    return found


def override(value: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return the values with ``key.inner=YAML`` settings from a command line put over them."""
    result: dict[str, Any] = dict(value)
    for key, new in parse_changes(settings).items():
        inner = result
        *parents, last = key.split(".")
        for parent in parents:
            below = inner.get(parent)
            inner[parent] = dict(below) if isinstance(below, dict) else {}
            inner = inner[parent]
        inner[last] = new
    return result

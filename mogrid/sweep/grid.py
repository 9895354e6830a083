"""A sweep: a recipe, and axes over any of its fields. Its cells are recipes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from mogrid.config import Strict, YamlFile, parse_changes, read_yaml
from mogrid.errors import ConfigError, nearest
from mogrid.training.recipe import Recipe, put, read_recipe

__all__ = ["Point", "Sweep", "SweepSettings", "lattice", "read_sweep", "sweep_of"]

_SHORT = {
    "models": "model",
    "pairs": "training.pairs",
    "steps": "training.steps",
    "budget": "training.budget",
    "learning_rate": "training.learning_rate",
    "batch_size": "training.batch_size",
    "mixes": "mix",
    "solvers": "solver",
    "seeds": "seed",
}
"""Names of axes that are not the recipe's own keys."""

_SCALE = ("model", "training.pairs", "training.steps", "training.epochs", "training.budget", "seed")
_INNER = "recipe."
_MOST = 10_000  # cells


class SweepSettings(Strict):
    """A grid over a recipe. Paths are relative to the file."""

    recipe: str | dict[str, Any] = Field(description="its file, or the recipe itself")
    vary: dict[str, Any] | list[dict[str, Any]] = Field(
        description="axes: a list of values by dotted key, or by models, pairs, mixes, solvers, seeds; "
        "`mixes: {lattice: 3}` is a lattice on the simplex; a name of your own holds mappings of several keys that "
        "vary together. Several grids are their union"
    )
    equal: Literal["flops", "pairs"] = Field(
        default="flops",
        description="what runs of one length have in common: what `pairs` cost in full batches, or pairs",
    )
    rows: list[Literal["base", "bm25"]] = Field(default=["base", "bm25"], description="judged beside the runs")
    merge: list[float | Literal["corners"]] = Field(
        default_factory=list,
        description="judged, too: shares of each run's weights, the rest the base's; or corners: models of one "
        "objective each, merged as every mix divides the effort",
    )
    keep: Literal["nothing", "models"] = Field(default="nothing", description="of a finished run, besides its record")
    workers: int = Field(default=2, ge=1, description="runs at the same time, one thread each")

    @field_validator("vary")
    @classmethod
    def _some(cls, vary: Any) -> Any:
        for grid in [vary] if isinstance(vary, dict) else vary:
            if not isinstance(grid, dict) or not grid:
                raise ValueError("a grid is a mapping of axes to lists of values")
        if not vary:
            raise ValueError("name at least one axis")
        return vary

    @field_validator("merge")
    @classmethod
    def _shares(cls, merge: list[float | str]) -> list[float | str]:
        if any(not isinstance(share, str) and not 0 < share < 1 for share in merge):
            raise ValueError("a share lies between 0 and 1")
        return merge


@dataclass(frozen=True)
class Point:
    """One combination of the axes' values.

    Attributes
    ----------
    recipe : Recipe
    changes : dict of dotted key to value
        What the axes set; values of axes alone.
    grid : int
        Which of the grids it belongs to.
    """

    recipe: Recipe
    changes: Mapping[str, Any]
    grid: int


@dataclass(frozen=True)
class Sweep:
    """A sweep's settings with its recipe and points, read and checked.

    Attributes
    ----------
    settings : SweepSettings
    recipe : Recipe
        Before anything varies.
    base : Path
        The folder that the recipe's paths are relative to.
    points : tuple of Point
        Distinct; the order of the file, last axis fastest.
    """

    settings: SweepSettings
    recipe: Recipe
    base: Path
    points: tuple[Point, ...]

    def label(self, point: Point, plain: str) -> str:
        """Return what a point's runs are called: the mix or solver, and what else varies besides scale and seed."""
        said = [plain]
        for key in self.axes:
            if key in ("mix", "solver") or _of_scale(key) or key in self._with_scale:
                continue
            value = point.changes.get(key, _MISSING)
            if key == "spend":
                said.append(f"as {point.recipe.spend}")
            elif value is not _MISSING:
                said.append(f"{key.rpartition('.')[2].replace('_', ' ')} {_shown(value)}")
        return ", ".join(said)

    @cached_property
    def _with_scale(self) -> frozenset[str]:
        """Keys that have one value at every scale, such as a learning rate that goes with the size of the model."""
        scales = [
            repr({k: v for k, v in point.changes.items() if _of_scale(k) and k != "seed"}) for point in self.points
        ]
        found = []
        for key in self.axes:
            values: dict[str, set[str]] = {}
            for scale, point in zip(scales, self.points, strict=True):
                values.setdefault(scale, set()).add(repr(point.changes.get(key, _MISSING)))
            if len(values) > 1 and all(len(own) == 1 for own in values.values()):
                found.append(key)
        return frozenset(found)

    @property
    def axes(self) -> tuple[str, ...]:
        """Dotted keys that take more than one value among the points."""
        keys = dict.fromkeys(key for point in self.points for key in point.changes)
        return tuple(key for key in keys if len({repr(point.changes.get(key, _MISSING)) for point in self.points}) > 1)


_MISSING = object()


def _of_scale(key: str) -> bool:
    return any(key == scale or key.startswith(f"{scale}.") for scale in _SCALE)


def read_sweep(path: Path | str, changes: Sequence[str] = ()) -> Sweep:
    """Read a sweep's YAML file.

    Raises
    ------
    ConfigError
        One line with file, line and key: an axis that no recipe has, a value it cannot take, a combination that is no
        recipe.
    """
    file = read_yaml(path)
    if not isinstance(file.value, dict):
        raise ConfigError(f"{path}:1: expected a mapping of settings, got {type(file.value).__name__}")
    return sweep_of(file, file.path.resolve().parent, changes)


def sweep_of(file: YamlFile, base: Path, changes: Sequence[str] = ()) -> Sweep:
    """Return the sweep of a file's settings, with ``key=value`` settings put over them.

    Parameters
    ----------
    file : YamlFile
        Holds a mapping of a sweep's settings.
    base : Path
        The folder that its paths are relative to.
    changes : sequence of str
        Of the sweep; behind ``recipe.`` of the recipe, also of one that has a file of its own.
    """
    value = dict(file.value)
    apart = isinstance(value.get("recipe"), str)
    inner = [change.removeprefix(_INNER) for change in changes if apart and change.startswith(_INNER)]
    for key, new in parse_changes([change for change in changes if not (apart and change.startswith(_INNER))]).items():
        put(value, key, new)
    settings = YamlFile(file.path, value, file.lines).parse(SweepSettings)
    if isinstance(settings.recipe, str):
        place = (base / Path(settings.recipe).expanduser()).resolve()
        recipe, base = read_recipe(place, inner), place.parent
    else:
        lines = {key[1:]: line for key, line in file.lines.items() if key[:1] == ("recipe",)}
        recipe = YamlFile(file.path, value["recipe"], lines).parse(Recipe)
    return expand(settings, recipe, base, file)


def expand(settings: SweepSettings, recipe: Recipe, base: Path, file: YamlFile | None = None) -> Sweep:
    """Return the sweep of some settings over a recipe."""
    grids = [settings.vary] if isinstance(settings.vary, dict) else settings.vary
    several = not isinstance(settings.vary, dict)
    points: dict[str, Point] = {}
    for number, grid in enumerate(grids):
        axes = []
        for name, values in grid.items():
            location = ("vary", number, name) if several else ("vary", name)
            place = f"{file.place(location)}: " if file is not None else ""
            try:
                axes.append(_axis(name, values, recipe))
            except ConfigError as error:
                raise ConfigError(f"{place}vary.{name}: {error}") from error
        if math.prod(map(len, axes)) > _MOST:
            raise ConfigError(f"{math.prod(map(len, axes)):,} cells; a sweep has at most {_MOST:,}")
        for combination in itertools.product(*axes):
            set_to = {key: value for part in combination for key, value in part.items()}
            try:
                made = recipe.change(set_to)
            except ConfigError as error:
                said = ", ".join(f"{key} {_shown(value)}" for key, value in set_to.items())
                where = f"{file.place(('vary',))}: " if file is not None else ""
                raise ConfigError(f"{where}no recipe at {said}: {str(error).split(': ', 1)[-1]}") from error
            # A share of 0 and none at all are one mix: two runs of it would pass for two seeds.
            same = {**made.identity(), "mix": None if made.mix is None else made.shares}
            points.setdefault(repr(same), Point(made, set_to, number))
    return Sweep(settings, recipe, base, tuple(points.values()))


def _axis(name: str, values: Any, recipe: Recipe) -> list[dict[str, Any]]:
    """Return one change, of one key or several, for every value of an axis."""
    key = _SHORT.get(name, name)
    if key == "mix":
        return [{"mix": mix} for mix in _mixes(values, recipe)]
    if not isinstance(values, list) or not values:
        raise ConfigError(f"expected a list of values, got {_shown(values)}")
    top = key.split(".")[0]
    if top in Recipe.model_fields:
        if key == "model":
            # Each value is a whole base model's keys put over the recipe's, so that axes of models stay short.
            return [{f"model.{k}": v for k, v in _mapping(value).items()} for value in values]
        return [{key: value} for value in values]
    if not all(isinstance(value, dict) for value in values):
        known = [*Recipe.model_fields, *_SHORT]
        raise ConfigError(
            f"no such key of a recipe{nearest(top, known)}; an axis of several keys has mappings as values"
        )
    together = [_mapping(value) for value in values]
    for changes in together:
        for inner in changes:
            if _SHORT.get(inner, inner).split(".")[0] not in Recipe.model_fields:
                raise ConfigError(f"no such key of a recipe {inner!r}{nearest(inner, [*Recipe.model_fields, *_SHORT])}")
    return [{_SHORT.get(k, k): v for k, v in changes.items()} for changes in together]


def _mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"path": value}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"expected a mapping of keys to values, got {_shown(value)}")
    return value


def _mixes(values: Any, recipe: Recipe) -> list[dict[str, float]]:
    names = tuple(recipe.objectives)
    if isinstance(values, dict) and values.keys() == {"lattice"}:
        parts = values["lattice"]
        if not isinstance(parts, int) or isinstance(parts, bool) or parts < 1:
            raise ConfigError(f"a lattice has a whole number of parts, got {parts!r}")
        return [dict(zip(names, row, strict=True)) for row in lattice(len(names), parts)]
    if not isinstance(values, list) or not values:
        raise ConfigError(f"expected a list of mixes, or {{lattice: PARTS}}, got {_shown(values)}")
    found: list[dict[str, float]] = []
    for value in values:
        if value == "equal":
            found.append(dict.fromkeys(names, 1 / len(names)))
        elif value == "corners":
            found += [{name: 1.0} for name in names]
        elif isinstance(value, str):
            if value not in names:
                raise ConfigError(f"no objective {value!r}{nearest(value, [*names, 'equal', 'corners'])}")
            found.append({value: 1.0})
        else:
            found.append(_mapping(value))
    return found


def lattice(count: int, parts: int) -> Iterator[tuple[float, ...]]:
    """Yield the shares of `count` objectives in steps of 1 / `parts`, corners included, and the centre."""
    seen_centre = False
    for cuts in itertools.combinations(range(parts + count - 1), count - 1):
        edges = (-1, *cuts, parts + count - 1)
        row = tuple((b - a - 1) / parts for a, b in itertools.pairwise(edges))
        seen_centre = seen_centre or len(set(row)) == 1
        yield row
    if not seen_centre:
        yield (1 / count,) * count


def _shown(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) < 60 else f"{text[:57]}..."

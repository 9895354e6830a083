"""A recipe: everything that decides one run's numbers. Typed, with a JSON Schema, every error with its place."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from mogrid.config import Strict, YamlFile, parse_changes, read_yaml
from mogrid.errors import ConfigError, DataError, nearest
from mogrid.objectives.registry import is_loss
from mogrid.solvers import SolverError, from_config
from mogrid.trainer.keep import best_of
from mogrid.trainer.mix import Mix, Spend
from mogrid.training.settings import LENGTHS, EvaluationSettings, ModelSettings, ObjectiveSettings, TrainingSettings

__all__ = ["FREE", "Recipe", "apply_plan", "put", "read_recipe"]

FREE = ("mix", "seed", "model", "training.pairs", "training.steps", "training.budget", "training.epochs")
"""What laws are over: runs that differ in nothing else are of one family."""

PLAN_FORMAT = 1
_MOST = 16  # objectives
_NOWHERE = "recipe"


class Recipe(Strict):
    """One run. Paths are relative to the file."""

    output: str | None = Field(
        default=None,
        min_length=1,
        description="folder of the run, for mogrid train; for mogrid tune, -tune comes after its name",
    )
    data: str | None = Field(default=None, description="folder of data sets; the embedded collection when empty")
    seed: int = Field(default=0, ge=0)
    model: ModelSettings = ModelSettings()
    objectives: dict[str, ObjectiveSettings] = Field(min_length=1)
    mix: dict[str, float] | None = Field(
        default=None, description="how the effort is divided among the objectives; equally when empty"
    )
    spend: Spend = Field(default="rows", description="the mix: rows of every batch, loss weights, or whole steps")
    solver: str | dict[str, Any] = "fixed"
    preference: dict[str, float] | None = Field(
        default=None,
        description="importance of objectives' nDCG@10, for `keep: best` and mogrid tune; equal when empty",
    )
    at_least: dict[str, float | str] = Field(
        default_factory=dict, description="least nDCG@10 of objectives, likewise: a number, base, or base-0.005"
    )
    training: TrainingSettings
    evaluation: EvaluationSettings | None = None

    @field_validator("objectives")
    @classmethod
    def _plain_names(cls, objectives: dict[str, ObjectiveSettings]) -> dict[str, ObjectiveSettings]:
        if len(objectives) > _MOST:
            raise ValueError(f"{len(objectives)} objectives; at most {_MOST} can be weighed")
        for name in objectives:
            if not name or not all(letter.isalnum() or letter in "_-" for letter in name):
                raise ValueError(f"objective {name!r}: a name is letters, digits, - and _")
        return objectives

    @field_validator("mix")
    @classmethod
    def _on_the_simplex(cls, mix: dict[str, float] | None) -> dict[str, float] | None:
        if mix is not None:
            for name, share in mix.items():
                if share < 0:
                    raise ValueError(f"the share of {name!r} must be 0 or more")
            if abs(sum(mix.values()) - 1) > 1e-6:
                raise ValueError(f"the shares sum to {sum(mix.values()):g}, not 1")
        return mix

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        names = tuple(self.objectives)
        for key in ("mix", "preference", "at_least"):
            for name in getattr(self, key) or ():
                if name not in names:
                    raise ValueError(f"{key}: no objective {name!r}{nearest(name, names)}")
        best_of(self.preference, self.at_least)  # a weight or bound that is none is an error now
        try:
            solver = from_config(self.solver)
            self._check_solver()
            solver.active(names)
        except SolverError as error:
            loss = "; a loss of that name goes to `objectives.NAME.loss`" if is_loss(self.solver) else ""
            raise ValueError(f"solver: {error}{loss}") from error
        for name in self.training.batch_sizes:
            if name not in names:
                raise ValueError(f"training.batch_sizes: no objective {name!r}{nearest(name, names)}")
        if self.training.batch_sizes and self.spend != "weights":
            raise ValueError(
                f"training.batch_sizes: `spend: {self.spend}` says how large batches are, too: leave one out"
            )
        if min(self.training.batch_sizes.values(), default=2) < 2:
            raise ValueError("training.batch_sizes: each must be at least 2")
        self.rows()  # a mix that leaves an objective without rows is an error now
        return self

    def _check_solver(self) -> None:
        if from_config(self.solver).needs_halves and self.training.accumulation % 2:
            raise ValueError(
                f"solver {self.solver_name!r} compares two halves of every step: `training.accumulation` must be even, "
                f"such as 2, got {self.training.accumulation}"
            )
        if self.solver_name == "fixed":
            if isinstance(self.solver, dict) and self.solver.get("weights") is not None:
                raise ValueError("solver: fixed weights are the mix: give them as `mix`, with `spend: weights`")
        elif self.spend == "steps":
            raise ValueError(
                f"solver {self.solver_name!r} weighs objectives of one step, and `spend: steps` has one a step"
            )

    @property
    def solver_name(self) -> str:
        """The solver as `mogrid.solvers` spells it."""
        return str(from_config(self.solver).name)

    @property
    def shares(self) -> dict[str, float]:
        """The mix, with a share of every objective: equal ones where none is given."""
        if self.mix is None:
            return dict.fromkeys(self.objectives, 1 / len(self.objectives))
        return {name: float(self.mix.get(name, 0.0)) for name in self.objectives}

    def rows(self) -> dict[str, float]:
        """Return by objective how many rows a step draws, on average where the mix is spent as steps.

        Raises
        ------
        ConfigError
            An objective with a share gets fewer than two rows of the batch.
        """
        mix, size = Mix(self.shares, self.spend, self.objectives), self.training.batch_size
        found: dict[str, float] = {}
        if self.spend == "steps":
            found = {name: size * share for name, share in mix.shares.items()}
        elif self.spend == "rows":
            found = {**mix.rows(size)}
        else:
            found = {name: float(self.training.batch_sizes.get(name, size)) for name in mix.shares}
        return {name: rows * self.training.accumulation for name, rows in found.items()}

    def identity(self) -> dict[str, Any]:
        """Return what decides the run's numbers, as plain values; not where things lie or how it is reported.

        What the data and the file of domains say is in the data's hash.
        """
        value = self.model_dump(mode="json", exclude={"output", "data"}, exclude_defaults=True)
        value["seed"] = self.seed
        value.get("evaluation", {}).pop("domains", None)
        if self.training.keep == "last":  # then they choose nothing
            value = {key: part for key, part in value.items() if key not in ("preference", "at_least")}
        for key in ("report_to", "checkpoints"):
            value["training"].pop(key, None)
        return value

    def digest(self, *others: str) -> str:
        """Return eight hex digits of the identity and whatever else decides the numbers, such as the data's hash."""
        text = json.dumps([self.identity(), *others], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def family(self) -> str:
        """Return a hash of everything that laws are not over: recipes of one family share a plan."""
        value = self.identity()
        for key in (*FREE, "training.learning_rate"):
            *parents, last = key.split(".")
            inner: Any = value
            for parent in parents:
                inner = inner.get(parent, {})
            inner.pop(last, None)
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

    def change(self, changes: Mapping[str, Any]) -> Recipe:
        """Return the recipe with dotted keys set anew, checked again.

        Raises
        ------
        ConfigError
            A key that no recipe has (the nearest is named), or a value it cannot take.
        """
        value = self.model_dump(mode="json", exclude_defaults=True)
        for key, new in changes.items():
            put(value, key, new)
        try:
            return YamlFile(Path(_NOWHERE), value, {}).parse(Recipe)
        except ConfigError as error:  # what was put together lies in no line of a file
            raise ConfigError(str(error).removeprefix(f"{_NOWHERE}:1: ")) from error


def put(value: dict[str, Any], key: str, new: Any) -> None:
    """Set a dotted key in nested plain values; a length of the training takes the place of the one there.

    Raises
    ------
    ConfigError
        A part of the key is no mapping.
    """
    inner = value
    *parents, last = key.split(".")
    for parent in parents:
        below = inner.get(parent)
        if isinstance(below, str | list) and parent != "model":  # the short form of a mapping
            below = {"on" if parent == "judged" else "name": below}
        elif below is True or below is None:
            below = {}
        if not isinstance(below, Mapping):
            raise ConfigError(f"{key}: {parent!r} is {below!r}, which has no keys of its own")
        inner[parent] = dict(below)
        inner = inner[parent]
    if parents == ["training"] and last in LENGTHS:
        for other in LENGTHS:
            inner.pop(other, None)
    inner[last] = new


def read_recipe(path: Path | str, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe's YAML file, with ``key.inner=value`` settings put over it.

    Raises
    ------
    ConfigError
        One line with file, line and key.
    """
    file = read_yaml(path)
    if not isinstance(file.value, dict):
        raise ConfigError(f"{path}:1: expected a mapping of settings, got {type(file.value).__name__}")
    value = copy.deepcopy(file.value)
    for key, new in parse_changes(changes).items():
        put(value, key, new)
    return YamlFile(file.path, value, file.lines).parse(Recipe)


def apply_plan(recipe: Recipe, path: Path) -> Recipe:
    """Return a recipe with what the file of a plan sets: base model, mix and budget.

    Raises
    ------
    DataError
        The file cannot be read, or is no plan.
    ConfigError
        The plan is for another recipe.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not isinstance(found, dict) or found.get("format") != PLAN_FORMAT or not isinstance(found.get("set"), dict):
        raise DataError(f"{path}: not a plan as `mogrid plan --out` writes it")
    if found.get("family") != recipe.family():
        raise ConfigError(
            f"{path}: a plan for another recipe (its objectives, training or evaluation differ in more than mix, "
            "model, length and seed); plan from runs of this one"
        )
    return recipe.change(found["set"])

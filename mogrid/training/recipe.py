"""The configuration of a training: typed, with a JSON Schema, every error with its place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mogrid.config import Strict, YamlFile, override, read_yaml
from mogrid.errors import ConfigError, MogridError, nearest
from mogrid.gradients import mode_settings
from mogrid.objectives.registry import LOSSES, checked_loss
from mogrid.retrieval.models import Style, parse_size

__all__ = [
    "DatasetSettings",
    "EvaluateSettings",
    "ModelSettings",
    "ObjectiveSettings",
    "OptimiserSettings",
    "TrainSettings",
    "read_settings",
]


class ModelSettings(Strict):
    """The retriever: `path`, a folder or Hub id, goes on from there; left out, a BERT of `size` from scratch."""

    path: str | None = None
    size: str = Field(default="1x64", description="LAYERSxWIDTH, from scratch")
    vocabulary: int = Field(default=8192, ge=64, description="word pieces, learned from the training text")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="from scratch")
    towers: Literal[1, 2] = 1
    pooling: Literal["cls", "mean"] = Field(default="mean", description="of a bare encoder, or from scratch")
    normalise: bool = Field(default=False, description="unit embeddings: cosine scores")
    max_length: int | None = Field(default=None, ge=4, le=8192, description="tokens; the model's own, 64 from scratch")
    query_prompt: str = Field(default="", description="instruction in front of every query; the model's own when empty")

    @field_validator("size")
    @classmethod
    def _known_size(cls, size: str) -> str:
        parse_size(size)
        return size

    def style(self) -> Style:
        """Return how the encoder becomes a retriever."""
        return Style(towers=self.towers, pooling=self.pooling, normalise=self.normalise, query_prompt=self.query_prompt)


class DatasetSettings(Strict):
    """One training set, below `data`; without `data`, a domain of the embedded collection."""

    kind: str = Field(default="beir", description="beir, dpr, msmarco, pairs, huggingface or ir_datasets")
    path: str = Field(min_length=1, description="its folder below `data`, or its id")
    split: str = "train"
    limit: int | None = Field(default=None, ge=2, description="pairs; all when empty")

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        from mogrid.data.readers import READERS

        if kind not in READERS:
            raise ValueError(f"unknown kind{nearest(kind, READERS)}")
        return kind


class ObjectiveSettings(Strict):
    """What one objective is trained on and with. Of several datasets, each is a domain."""

    datasets: list[DatasetSettings] = Field(min_length=1)
    loss: str | dict[str, Any] = Field(default="infonce", description="a name, or a name with settings")
    perturb: str | dict[str, Any] | None = Field(default=None, description="an attack on queries, of role train")
    variants: int = Field(default=4, ge=1, description="times each pair is perturbed anew")
    negatives: int = Field(default=0, ge=0, description="hard negatives a row, by BM25")

    @field_validator("loss")
    @classmethod
    def _known_loss(cls, loss: str | dict[str, Any]) -> str | dict[str, Any]:
        return checked_loss(loss)

    @field_validator("perturb")
    @classmethod
    def _known_attack(cls, perturb: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
        if perturb is not None:
            from mogrid.attacks.registry import ATTACKS

            name = perturb if isinstance(perturb, str) else perturb.get("name")
            if name not in ATTACKS or ATTACKS[name][0] != "queries":
                known = [name for name, entry in ATTACKS.items() if entry[0] == "queries"]
                raise ValueError(f"no attack on queries{nearest(str(name), known)}")
            from mogrid.training.datasets import training_attack

            training_attack(perturb)
        return perturb

    @model_validator(mode="after")
    def _rows_fit(self) -> ObjectiveSettings:
        name = self.loss if isinstance(self.loss, str) else self.loss["name"]
        over = LOSSES[name].over
        if (over == "perturbed") != (self.perturb is not None):
            needs = "needs `perturb`" if over == "perturbed" else "reads no perturbed text: leave `perturb` out"
            raise ValueError(f"loss {name!r} {needs}")
        if over == "perturbed" and self.negatives:
            raise ValueError(f"loss {name!r} takes no hard negatives")
        return self


class OptimiserSettings(Strict):
    """How long, and how. One of `steps`, `epochs` and `budget`."""

    steps: int | None = Field(default=None, ge=1, description="optimiser steps")
    epochs: float | None = Field(default=None, gt=0, description="over the smallest objective's pairs")
    budget: float | None = Field(default=None, gt=0, description="training FLOPs")
    batch_size: int = Field(default=32, ge=2)
    batch_sizes: dict[str, int] = Field(default_factory=dict, description="by objective, in place of `batch_size`")
    accumulation: int = Field(default=1, ge=1, description="batches a step")
    learning_rate: float = Field(default=2e-5, gt=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of the steps")
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    temperature: float = Field(default=1.0, gt=0, description="dot products are divided by it, where a loss says none")
    bf16: bool = False
    gradients: str | dict[str, Any] = Field(default="exact", description="what weights follow from")
    checkpoints: int = Field(default=10, ge=1, description="over the training")
    report_to: list[str] = Field(default_factory=list, description="such as tensorboard, wandb, mlflow, trackio")

    @field_validator("gradients")
    @classmethod
    def _known_mode(cls, gradients: str | dict[str, Any]) -> str | dict[str, Any]:
        mode_settings(gradients)
        return gradients

    @field_validator("report_to")
    @classmethod
    def _known_trackers(cls, report_to: list[str]) -> list[str]:
        if report_to:
            from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

            for name in report_to:
                if name not in INTEGRATION_TO_CALLBACK:
                    raise ValueError(f"unknown tracker {name!r}{nearest(name, INTEGRATION_TO_CALLBACK)}")
        return report_to

    @model_validator(mode="after")
    def _one_length(self) -> OptimiserSettings:
        given = [name for name in ("steps", "epochs", "budget") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of steps, epochs and budget ({', '.join(given) or 'none'} given)")
        if self.budget is not None and not math.isfinite(self.budget):
            raise ValueError("budget must be finite")
        return self


class EvaluateSettings(Strict):
    """What the finished model is judged on: its card's table."""

    domains: str = Field(default="domains.yaml", description="roles of the data sets below `data`")
    role: Literal["select", "test"] = "select"
    perturb: list[str] = Field(default_factory=lambda: ["typos"], description="attacks on queries")


class TrainSettings(Strict):
    """One training. Paths are relative to the file."""

    output: str = Field(min_length=1, description="folder of the run")
    data: str | None = Field(default=None, description="folder of data sets; the embedded collection when empty")
    seed: int = Field(default=0, ge=0)
    model: ModelSettings = ModelSettings()
    objectives: dict[str, ObjectiveSettings] = Field(min_length=1)
    solver: str | dict[str, Any] = "fixed"
    training: OptimiserSettings
    evaluation: EvaluateSettings | None = None

    @field_validator("objectives")
    @classmethod
    def _plain_names(cls, objectives: dict[str, ObjectiveSettings]) -> dict[str, ObjectiveSettings]:
        for name in objectives:
            if not name or not all(letter.isalnum() or letter in "_-" for letter in name):
                raise ValueError(f"objective {name!r}: a name is letters, digits, - and _")
        return objectives

    @model_validator(mode="after")
    def _fits_together(self) -> TrainSettings:
        from mogrid.solvers import from_config

        names = tuple(self.objectives)
        try:
            from_config(self.solver).active(names)
        except MogridError as error:
            raise ValueError(f"solver: {error}") from error
        for name in self.training.batch_sizes:
            if name not in names:
                raise ValueError(f"training.batch_sizes names no objective {name!r}{nearest(name, names)}")
        if min(self.training.batch_sizes.values(), default=2) < 2:
            raise ValueError("training.batch_sizes must be at least 2")
        return self


def read_settings(path: Path | str, changes: Sequence[str] = ()) -> TrainSettings:
    """Read a training's YAML file, with ``key.inner=value`` settings put over it.

    Raises
    ------
    ConfigError
        One line with file, line and key.
    """
    file = read_yaml(path)
    if not isinstance(file.value, dict):
        raise ConfigError(f"{path}:1: expected a mapping of settings, got {type(file.value).__name__}")
    value = dict(file.value)
    for change in changes:
        # solver: mgda and --set solver.name=upgrad are the same key
        if change.startswith("solver.") and isinstance(value.get("solver"), str):
            value["solver"] = {"name": value["solver"]}
    return YamlFile(file.path, override(value, changes), file.lines).parse(TrainSettings)

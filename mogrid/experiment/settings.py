"""What an experiment is: encoder, objectives, budget, strategies. Read from YAML; unknown keys are errors."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mogrid.config import Strict
from mogrid.errors import nearest
from mogrid.retrieval.models import Style, parse_size

__all__ = ["OBJECTIVES", "EncoderSettings", "EvaluationSettings", "ExperimentSettings", "TrainingSettings"]

OBJECTIVES = ("effectiveness", "ood", "adversarial")

# What the surrogate's smallest form needs for three objectives, and one to hold out.
_INTERIOR = 6


def _at_default(settings: Strict, *names: str) -> set[str]:
    return {name for name in names if getattr(settings, name) == type(settings).model_fields[name].default}


class EncoderSettings(Strict):
    """The retriever. `path` (a folder or Hub id) replaces a from-scratch BERT of `size`."""

    size: str = "1x64"
    path: str | None = None
    towers: Literal[1, 2] = 2
    pooling: Literal["cls", "mean"] = "mean"
    vocabulary: int = Field(default=8192, ge=64)
    max_length: int = Field(default=64, ge=4, le=8192)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    normalise: bool = Field(default=False, description="unit embeddings: cosine scores, as BGE has them")
    query_prompt: str = Field(default="", description="instruction in front of every query")

    def identity(self) -> dict[str, Any]:
        """Return what decides a run's numbers; later settings only where they are not what they had always been."""
        return self.model_dump(exclude=_at_default(self, "normalise", "query_prompt"))

    def style(self) -> Style:
        """Return how the encoder becomes a retriever."""
        return Style(towers=self.towers, pooling=self.pooling, normalise=self.normalise, query_prompt=self.query_prompt)

    @field_validator("size")
    @classmethod
    def _known_size(cls, size: str) -> str:
        parse_size(size)
        return size


class TrainingSettings(Strict):
    """How every strategy is trained: the same for all of them."""

    budget: float = Field(gt=0, description="training FLOPs of one run")
    batch_size: int = Field(default=24, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of the steps")
    max_grad_norm: float = Field(default=1.0, gt=0)
    bf16: bool = False
    temperature: float = Field(default=1.0, gt=0, description="dot products are divided by it in every loss")
    adversarial: Literal["typos", "fgm"] = "typos"
    consistency: float = Field(default=1.0, ge=0, description="weight of the KL term of the typo objective")
    epsilon: float = Field(default=0.02, gt=0, le=1, description="FGM's step relative to the embeddings")
    ood_temperature: float = Field(default=1.0, gt=0, description="of the smooth worst domain")
    typo_variants: int = Field(default=4, ge=1, description="times each pair is perturbed anew")
    max_pairs: int | None = Field(default=None, ge=2, description="D: training pairs of the source; all when empty")
    ood: Literal["worst", "balanced", "group_dro", "idro", "unseen"] = Field(
        default="worst", description="objective over the OOD training domains"
    )
    negatives: int = Field(default=0, ge=0, description="hard negatives a row, by BM25, for effectiveness and OOD")
    batch_sizes: dict[str, int] | None = Field(default=None, description="by objective, in place of `batch_size`")

    def identity(self) -> dict[str, Any]:
        """Return what decides a run's numbers; later settings only where they are not what they had always been."""
        return self.model_dump(exclude=_at_default(self, "batch_sizes", "ood", "negatives"))


class EvaluationSettings(Strict):
    """What is measured after training."""

    negatives: int = Field(default=256, ge=1)
    redraws: int = Field(default=10, ge=1)
    max_queries: int | None = Field(default=None, ge=1, description="of each split; all when empty")
    max_documents: int | None = Field(
        default=None, ge=1, description="of each corpus, beyond those relevant to a query; all when empty"
    )
    attack_targets: int = Field(default=50, ge=0)
    attack_flips: int = Field(default=5, ge=1, le=50)
    bootstrap: int = Field(default=1000, ge=10, description="draws for every interval")


class ExperimentSettings(Strict):
    """A sweep of strategies at equal FLOPs, a front, a choice, and the chosen run."""

    encoder: EncoderSettings = EncoderSettings()
    training: TrainingSettings
    evaluation: EvaluationSettings = EvaluationSettings()
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1)
    sweep_seeds: list[int] | None = Field(
        default=None, min_length=1, description="of the fixed weights that only the surrogate needs; `seeds` when empty"
    )
    preference: dict[str, float] = Field(default_factory=lambda: {"effectiveness": 2.0, "ood": 1.0, "adversarial": 1.0})
    weights: list[dict[str, float]] = Field(min_length=1, description="fixed weights the surrogate is fitted to")
    solvers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    workers: int = Field(default=2, ge=1, description="runs trained at the same time, one thread each")

    @field_validator("seeds", "sweep_seeds")
    @classmethod
    def _distinct(cls, seeds: list[int] | None) -> list[int] | None:
        if seeds is not None and len(set(seeds)) != len(seeds):
            raise ValueError("seeds repeat; equal seeds give equal runs, which are no second measurement")
        return seeds

    @field_validator("preference")
    @classmethod
    def _positive(cls, preference: dict[str, float]) -> dict[str, float]:
        _check_names(preference, "preference")
        for name in OBJECTIVES:
            if name not in preference:
                raise ValueError(f"no value for {name!r}; every objective needs one")
            if not (math.isfinite(preference[name]) and preference[name] > 0):
                raise ValueError(f"{name}: must be a positive number, got {preference[name]}")
        return preference

    @field_validator("weights")
    @classmethod
    def _simplex(cls, weights: list[dict[str, float]]) -> list[dict[str, float]]:
        for row in weights:
            _check_names(row, "weights")
            if any(not math.isfinite(v) or v < 0 for v in row.values()):
                raise ValueError(f"weights {row}: each must be 0 or more")
            if abs(sum(row.values()) - 1) > 1e-6:
                raise ValueError(f"weights {row} sum to {sum(row.values()):g}, not 1")
        return weights

    @field_validator("solvers")
    @classmethod
    def _known_solvers(cls, solvers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        from mogrid.solvers import from_config

        for config in solvers.values():
            from_config(config).active(OBJECTIVES)
        return solvers

    @model_validator(mode="after")
    def _enough_for_a_front(self) -> ExperimentSettings:
        for k, name in enumerate(OBJECTIVES):
            if all(row.get(name, 0.0) == 0 for row in self.weights):
                raise ValueError(f"no weights train objective {k + 1} of {len(OBJECTIVES)}, {name!r}")
        inside = {tuple(row.get(name, 0.0) for name in OBJECTIVES) for row in self.weights}
        inside = {row for row in inside if min(row) > 0}
        if len(inside) < _INTERIOR:
            raise ValueError(
                f"{len(inside)} distinct weights have every objective above 0; the surrogate needs {_INTERIOR}"
            )
        return self


def _check_names(values: dict[str, float], what: str) -> None:
    for name in values:
        if name not in OBJECTIVES:
            raise ValueError(f"{what} name no objective {name!r}{nearest(name, OBJECTIVES)}")

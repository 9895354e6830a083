"""What a recipe's parts say: base model, data sets, objectives, how they are judged, training, evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator, model_validator

from mogrid.attacks.registry import attack_for, attack_name
from mogrid.config import Strict
from mogrid.data import Role
from mogrid.data.readers import READERS
from mogrid.data.records import Columns
from mogrid.errors import nearest
from mogrid.gradients import mode_settings
from mogrid.objectives.registry import LOSSES, checked_loss
from mogrid.retrieval.models import parse_size
from mogrid.retrieval.negatives import DEPTH

__all__ = [
    "LENGTHS",
    "DatasetSettings",
    "EvaluationSettings",
    "HealSettings",
    "JudgedSettings",
    "LoraSettings",
    "ModelSettings",
    "NegativesSettings",
    "ObjectiveSettings",
    "TrainingSettings",
]

LENGTHS = ("steps", "epochs", "pairs", "budget")
"""Ways to say how long a training is."""


class LoraSettings(Strict):
    """Low-rank adapters: only they are trained, and are folded into the saved model."""

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: list[str] | None = Field(
        default=None, min_length=1, description="names' ends; all linear layers when empty"
    )


class HealSettings(Strict):
    """A thinned model is first taught the embeddings of the whole one, on training-role text, once."""

    texts: int = Field(default=10_000, ge=16, description="of the objectives' queries and documents")
    epochs: float = Field(default=2.0, gt=0)
    learning_rate: float = Field(default=2e-3, gt=0)
    batch_size: int = Field(default=64, ge=2)
    max_length: int = Field(default=64, ge=4, description="tokens, for the healing alone")


class ModelSettings(Strict):
    """The base model: `path`, a folder or Hub id, goes on from there; left out, a BERT of `size` from scratch."""

    path: str | None = None
    size: str = Field(default="1x64", description="LAYERSxWIDTH, from scratch")
    layers: int | list[int] | None = Field(
        default=None,
        description="of `path`: how many are kept, first and last among them, or which ones from 0",
    )
    heal: HealSettings | None = Field(default=None, description="mend a thinned model before it is trained")
    lora: LoraSettings | None = Field(default=None, description="train low-rank adapters alone")
    freeze: Literal["embeddings"] | PositiveInt | None = Field(
        default=None,
        description="what is not trained: word embeddings, or all of them and so many of the lowest layers",
    )
    vocabulary: int = Field(default=8192, ge=64, description="word pieces, learned from the training text")
    dropout: float | None = Field(default=None, ge=0, lt=1, description="the model's own, .1 from scratch")
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

    @field_validator("layers")
    @classmethod
    def _some_layers(cls, layers: int | list[int] | None) -> int | list[int] | None:
        if layers == [] or (isinstance(layers, int) and layers < 1):
            raise ValueError("a thinned model keeps at least one layer")
        return layers

    @field_validator("heal", "lora", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {} if value is True else None if value is False else value

    @model_validator(mode="after")
    def _fits_together(self) -> ModelSettings:
        for key in ("layers", "lora"):
            if self.path is None and getattr(self, key) is not None:
                raise ValueError(f"{key} is of a pretrained model: name its `path`")
        if self.heal is not None and self.layers is None:
            raise ValueError("heal mends what thinning breaks: say which `layers` are kept")
        kept = self.layers if isinstance(self.layers, int) else len(self.layers or ())
        if isinstance(self.freeze, int) and 0 < kept <= self.freeze:
            raise ValueError(f"freeze: {self.freeze} layers of {kept} leave none to train")
        return self

    @property
    def label(self) -> str:
        """What tables and figures call the base model."""
        if self.path is None:
            parts = [self.size]
        else:
            parts = [Path(self.path).name or self.path]
            if isinstance(self.layers, int):
                parts.append("1 layer" if self.layers == 1 else f"{self.layers} layers")
            elif self.layers is not None:
                parts.append(f"layers {', '.join(map(str, self.layers))}")
            if self.heal is not None:
                parts.append("healed")
        if self.lora is not None:
            parts.append(f"LoRA {self.lora.rank}")
        if self.freeze is not None:
            parts.append(f"frozen {self.freeze}" if isinstance(self.freeze, str) else f"lowest {self.freeze} frozen")
        if self.towers == 2:
            parts.append("two towers")
        return ", ".join(parts)


class DatasetSettings(Strict):
    """One training set, below `data`; without `data`, a domain of the embedded collection."""

    path: str = Field(min_length=1, description="its folder or file below `data`, or its id")
    kind: str | None = Field(default=None, description=f"{', '.join(READERS)}; as its files show when empty")
    split: str = "train"
    limit: int | None = Field(default=None, ge=2, description="pairs; all when empty")
    columns: Columns | None = Field(default=None, description="what they are called, of kinds that have columns")
    drop_overlap: bool = Field(default=False, description="leave out queries that something is selected or tested by")

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str | None) -> str | None:
        if kind is not None and kind not in READERS:
            raise ValueError(f"unknown kind{nearest(kind, READERS)}")
        return kind


class NegativesSettings(Strict):
    """Hard negatives: those that the data bring first, then what a model ranks high."""

    count: int = Field(default=1, ge=0, description="a row")
    by: str = Field(
        default="bm25",
        description="bm25; base: the recipe's own, at its max_length; or a model's folder or Hub id",
    )
    margin: float = Field(default=0.05, ge=0, lt=1, description="of a model: see mogrid.retrieval.mine_hard_negatives")
    skip: int = Field(default=0, ge=0, description="results passed over at the top")

    @model_validator(mode="after")
    def _within_reach(self) -> NegativesSettings:
        if self.count + self.skip > DEPTH:
            raise ValueError(
                f"count and skip are of {DEPTH} results: at most so many together, got {self.count} and {self.skip}"
            )
        return self


class JudgedSettings(Strict):
    """The select-role measure that stands for an objective in fronts, laws and choices."""

    on: list[str] = Field(min_length=1, description="domains, or domain/split: never of role test")
    perturb: str | dict[str, Any] | None = Field(default=None, description="an attack on queries, of role select")
    metric: Literal["ce", "ndcg"] = Field(default="ce", description="what laws and choices are made of")
    over: Literal["mean", "worst"] = Field(default="mean", description="of several domains")

    @field_validator("on", mode="before")
    @classmethod
    def _one_or_more(cls, on: Any) -> Any:
        return [on] if isinstance(on, str) else on

    @field_validator("perturb")
    @classmethod
    def _known_attack(cls, perturb: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
        if perturb is not None:
            attack_name(perturb)
            attack_for(perturb, Role.SELECT)
        return perturb


class ObjectiveSettings(Strict):
    """What one objective is trained on and with, and how it is judged. Of several datasets, each is a domain."""

    datasets: list[DatasetSettings] = Field(min_length=1)
    loss: str | dict[str, Any] = Field(default="infonce", description="a name, or a name with settings")
    perturb: str | dict[str, Any] | None = Field(default=None, description="an attack on queries, of role train")
    variants: int = Field(default=4, ge=1, description="times each pair is perturbed anew")
    negatives: NegativesSettings | None = Field(
        default=None, description="hard negatives, or how many by BM25; those that the data bring when empty"
    )
    judged: JudgedSettings | None = Field(
        default=None,
        description="left out: on the select splits of its own sets, under its own perturbation; of a loss over "
        "domains, on the other domains of role select",
    )

    @field_validator("datasets", mode="before")
    @classmethod
    def _by_name(cls, datasets: Any) -> Any:
        several = [datasets] if isinstance(datasets, str | dict) else datasets
        if not isinstance(several, list):
            return several
        return [{"path": entry} if isinstance(entry, str) else entry for entry in several]

    @field_validator("negatives", mode="before")
    @classmethod
    def _so_many(cls, negatives: Any) -> Any:
        return {"count": negatives} if isinstance(negatives, int) and not isinstance(negatives, bool) else negatives

    @field_validator("judged", mode="before")
    @classmethod
    def _on(cls, judged: Any) -> Any:
        return {"on": judged} if isinstance(judged, str | list) else judged

    @field_validator("loss")
    @classmethod
    def _known_loss(cls, loss: str | dict[str, Any]) -> str | dict[str, Any]:
        return checked_loss(loss)

    @field_validator("perturb")
    @classmethod
    def _known_attack(cls, perturb: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
        if perturb is not None:
            attack_name(perturb)
            attack_for(perturb, Role.TRAIN)
        return perturb

    @model_validator(mode="after")
    def _rows_fit(self) -> ObjectiveSettings:
        if (self.over == "perturbed") != (self.perturb is not None):
            needs = "needs `perturb`" if self.over == "perturbed" else "reads no perturbed text: leave `perturb` out"
            raise ValueError(f"loss {self.loss_name!r} {needs}")
        if self.over == "perturbed" and self.negatives is not None and self.negatives.count:
            raise ValueError(f"loss {self.loss_name!r} takes no hard negatives")
        return self

    @property
    def loss_name(self) -> str:
        return self.loss if isinstance(self.loss, str) else str(self.loss["name"])

    @property
    def over(self) -> str:
        """Which rows the loss reads: ``pairs``, ``domains`` or ``perturbed``."""
        return LOSSES[self.loss_name].over


class TrainingSettings(Strict):
    """How long, and how. One of `steps`, `epochs`, `pairs` and `budget`."""

    steps: int | None = Field(default=None, ge=1, description="optimiser steps")
    epochs: float | None = Field(default=None, gt=0, description="over the smallest objective's pairs")
    pairs: int | None = Field(default=None, ge=2, description="rows drawn in all, over the objectives")
    budget: float | None = Field(default=None, gt=0, description="training FLOPs")
    batch_size: int = Field(default=32, ge=2, description="rows an objective; of the whole batch under `spend: rows`")
    batch_sizes: dict[str, int] = Field(default_factory=dict, description="by objective, in place of `batch_size`")
    accumulation: int = Field(default=1, ge=1, description="batches a step")
    learning_rate: float = Field(default=2e-5, gt=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of the steps")
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, ge=0, description="to which gradients are clipped; 0 leaves them")
    temperature: float | None = Field(
        default=None,
        gt=0,
        description="scores are divided by it, where a loss says none; .05 for a model that compares by cosine, else 1",
    )
    bf16: bool = False
    gradients: str | dict[str, Any] = Field(default="exact", description="what weights follow from")
    checkpoints: int = Field(default=10, ge=1, description="over the training")
    keep: Literal["last", "best"] = Field(
        default="last",
        description="the weights of the last step; or of the best evaluation by the recipe's preference and at_least, "
        "of those before the training and after a 64th, a 32nd ... of its steps",
    )
    keep_within: float = Field(
        default=0.0,
        ge=0,
        description="of `keep: best`: the last evaluation is kept that is below the best by less, in nDCG@10 by the "
        "preference",
    )
    report_to: list[str] = Field(default_factory=list, description="such as tensorboard, wandb, mlflow, trackio")

    @field_validator("gradients")
    @classmethod
    def _known_mode(cls, gradients: str | dict[str, Any]) -> str | dict[str, Any]:
        mode_settings(gradients)
        return gradients

    @field_validator("max_grad_norm", mode="before")
    @classmethod
    def _some_norm(cls, norm: Any) -> Any:
        if norm in (float("inf"), "inf", ".inf"):
            raise ValueError("0 switches clipping off, no number is infinite")
        return norm

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
    def _one_length(self) -> TrainingSettings:
        given = [name for name in LENGTHS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of {', '.join(LENGTHS[:-1])} and {LENGTHS[-1]} ({', '.join(given) or 'none'} given)"
            )
        return self


class EvaluationSettings(Strict):
    """What the finished model is judged on besides what stands for its objectives."""

    domains: str | None = Field(
        default=None, description="file of roles of the data sets below `data`; domains.yaml there when empty"
    )
    role: Literal["select", "test"] = "select"
    perturb: list[str] = Field(default_factory=lambda: ["typos"], description="attacks on queries")
    negatives: int = Field(default=256, ge=1, description="of the contrastive entropy")
    redraws: int = Field(default=10, ge=1, description="of those negatives")
    max_queries: int | None = Field(default=None, ge=1, description="of each split; all when empty")
    max_documents: int | None = Field(
        default=None, ge=1, description="of each corpus, beyond those relevant to a query; all when empty"
    )

    @field_validator("perturb")
    @classmethod
    def _known_attacks(cls, perturb: list[str], info: ValidationInfo) -> list[str]:
        for name in perturb:
            attack_name(name)
            if attack_for(name, Role(info.data.get("role", Role.SELECT))).white_box:
                raise ValueError(
                    f"{name!r} looks into a model, and BM25, which is judged beside it, is none; `mogrid attack` "
                    "judges by it"
                )
        return perturb

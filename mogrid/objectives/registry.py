"""Losses by name: what ``loss:`` in a training's configuration says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from mogrid.construct import build, checked, named
from mogrid.errors import ConfigError
from mogrid.objectives.anchors import DriftBound, EmbeddingDistillation, ScoreDistillation, WeightAnchor
from mogrid.objectives.balanced import BalancedERM
from mogrid.objectives.consistency import PerturbationConsistency
from mogrid.objectives.contrastive import InfoNCE
from mogrid.objectives.domain_dro import DomainDRO
from mogrid.objectives.fgm import FGM, PGD
from mogrid.objectives.idro import IDRO
from mogrid.objectives.unseen_domain import RotatingUnseenDomain
from mogrid.objectives.vat import VAT
from mogrid.objectives.worst_domain import SmoothWorstDomain
from mogrid.solvers import SolverError, available

__all__ = ["ANCHORS", "LOSSES", "LossEntry", "checked_loss", "is_loss", "loss_from_config", "register_loss"]

Over = Literal["pairs", "domains", "perturbed"]

_OURS = ("domains",)  # parameters that no configuration sets


@dataclass(frozen=True)
class LossEntry:
    """A loss that configurations can name.

    Attributes
    ----------
    make : class or callable
        Its first parameter is the model, or, where `wraps`, the loss it is put around; a parameter ``domains`` gets
        the number of training domains. Other parameters are settings.
    over : "pairs", "domains" or "perturbed"
        Rows it reads: (query, document, negatives ...); those with the number of their domain; (query, document,
        perturbed query).
    wraps : bool
        Whether it is put around InfoNCE of the objective's ``temperature``.
    summary : str
    """

    make: Callable[..., nn.Module]
    over: Over
    wraps: bool
    summary: str


LOSSES: dict[str, LossEntry] = {
    "infonce": LossEntry(InfoNCE, "pairs", False, "in-batch negatives, by the model's own similarity"),
    "balanced_erm": LossEntry(BalancedERM, "domains", True, "the mean over domains"),
    "smooth_worst": LossEntry(SmoothWorstDomain, "domains", True, "a smooth maximum over the objective's domains"),
    "group_dro": LossEntry(DomainDRO, "domains", True, "weights on the objective's domains, by their losses"),
    "idro": LossEntry(IDRO, "domains", True, "weights on the objective's domains, by their influence"),
    "unseen_domain": LossEntry(RotatingUnseenDomain, "domains", True, "a trial step must help a domain left out"),
    "fgm": LossEntry(FGM, "pairs", True, "one step against the word embeddings"),
    "pgd": LossEntry(PGD, "pairs", True, "several steps against the word embeddings"),
    "vat": LossEntry(VAT, "pairs", False, "virtual adversarial training"),
    "consistency": LossEntry(PerturbationConsistency, "perturbed", False, "rank alike when the query is perturbed"),
    "distil": LossEntry(EmbeddingDistillation, "pairs", False, "embeddings stay where the base has them"),
    "drift_bound": LossEntry(DriftBound, "pairs", False, "no embedding moves further from the base than a bound"),
    "distil_scores": LossEntry(ScoreDistillation, "pairs", False, "candidates of the batch are ranked as by the base"),
    "l2_base": LossEntry(WeightAnchor, "pairs", False, "weights stay near the base's; reads no text"),
}
"""Name → entry."""

ANCHORS = ("distil", "drift_bound", "distil_scores", "l2_base")
"""Those that teach nothing: they hold to the base."""


def register_loss(name: str, entry: LossEntry) -> None:
    """Let configurations name a loss of your own.

    Raises
    ------
    ConfigError
        The name is taken.
    """
    if name in LOSSES:
        raise ConfigError(f"a loss {name!r} is there already")
    LOSSES[name] = entry


def checked_loss(config: str | Mapping[str, Any]) -> str | dict[str, Any]:
    """Return a loss's configuration with the name as `LOSSES` spells it, before there is a model.

    Raises
    ------
    ConfigError
        An unknown name or setting (the nearest is named), or a value of the wrong type.
    """
    name, settings = _named(config)
    entry = LOSSES[name]
    checked(entry.make, settings, label=f"loss {name}", taken=1, more=_OURS, also=("temperature",) * entry.wraps)
    return {"name": name, **settings} if settings else name


def loss_from_config(
    config: str | Mapping[str, Any], model: Any, *, domains: int = 1, temperature: float = 1.0
) -> nn.Module:
    """Return a loss from its name, in any spelling, or ``{name: fgm, epsilon: 0.05}``.

    Parameters
    ----------
    config : str or mapping
        Names the loss, with settings or without.
    model : SentenceTransformer
        What is trained, as yet untrained: anchors take it for the base.
    domains : int
        Training domains, for losses that keep something of each.
    temperature : float
        Of the InfoNCE that wrapping losses are put around, where `config` gives none.

    Raises
    ------
    ConfigError
        An unknown name or setting (the nearest is named), or a value of the wrong type or out of range.
    """
    name, settings = _named(config)
    entry, label = LOSSES[name], f"loss {name}"
    own = inspect.signature(entry.make).parameters
    ours: dict[str, Any] = {"domains": domains} if "domains" in own else {}
    inner = model
    if "temperature" not in own:
        # The setting of a loss that wraps InfoNCE without a temperature of its own is InfoNCE's.
        given = settings.pop("temperature", temperature) if entry.wraps else temperature
        inner = build(InfoNCE, {"temperature": given}, model, label=label) if entry.wraps else model
    elif entry.wraps:
        inner = InfoNCE(model, temperature)
    else:
        settings.setdefault("temperature", temperature)
    return build(entry.make, settings, inner, label=label, **ours)


def is_loss(config: str | Mapping[str, Any]) -> bool:
    """Say whether a configuration names a loss: two words, ``group_dro`` and ``smooth_worst``, name solvers, too."""
    try:
        named(_makers(), config, what="loss")
    except ConfigError:
        return False
    return True


def _named(config: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    try:
        return named(_makers(), config, what="loss")
    except ConfigError as error:
        with suppress(SolverError):
            name, _ = named(available(), config, what="solver", error=SolverError)
            raise ConfigError(
                f"no loss {name!r}: that is a solver, which weighs objectives (`solver: {name}`)"
            ) from error
        raise


def _makers() -> dict[str, Callable[..., nn.Module]]:
    return {name: entry.make for name, entry in LOSSES.items()}

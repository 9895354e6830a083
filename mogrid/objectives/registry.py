"""Losses by name: what ``loss:`` in a training's configuration says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from mogrid.errors import ConfigError, nearest
from mogrid.objectives.balanced import BalancedERM
from mogrid.objectives.consistency import PerturbationConsistency
from mogrid.objectives.contrastive import InfoNCE
from mogrid.objectives.fgm import FGM, PGD
from mogrid.objectives.group_dro import GroupDRO
from mogrid.objectives.idro import IDRO
from mogrid.objectives.unseen_domain import RotatingUnseenDomain
from mogrid.objectives.vat import VAT
from mogrid.objectives.worst_domain import SmoothWorstDomain

__all__ = ["LOSSES", "LossEntry", "loss_from_config", "register_loss"]

Over = Literal["pairs", "domains", "perturbed"]


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
    "infonce": LossEntry(InfoNCE, "pairs", False, "in-batch negatives, dot products"),
    "balanced_erm": LossEntry(BalancedERM, "domains", True, "the mean over domains"),
    "smooth_worst": LossEntry(SmoothWorstDomain, "domains", True, "a smooth maximum over domains"),
    "group_dro": LossEntry(GroupDRO, "domains", True, "weights on domains that follow their losses"),
    "idro": LossEntry(IDRO, "domains", True, "weights on domains that follow their influence"),
    "unseen_domain": LossEntry(RotatingUnseenDomain, "domains", True, "a trial step must help a domain left out"),
    "fgm": LossEntry(FGM, "pairs", True, "one step against the word embeddings"),
    "pgd": LossEntry(PGD, "pairs", True, "several steps against the word embeddings"),
    "vat": LossEntry(VAT, "pairs", False, "virtual adversarial training"),
    "consistency": LossEntry(PerturbationConsistency, "perturbed", False, "rank alike when the query is perturbed"),
}
"""Name → entry."""


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


def loss_from_config(
    config: str | Mapping[str, Any], model: Any, *, domains: int = 1, temperature: float = 1.0
) -> nn.Module:
    """Return a loss from its name, or ``{name: fgm, epsilon: 0.05}``.

    Parameters
    ----------
    config : str or mapping
    model : SentenceTransformer
    domains : int
        Training domains, for losses that keep something of each.
    temperature : float
        Of the InfoNCE that wrapping losses are put around, where `config` gives none.

    Raises
    ------
    ConfigError
        An unknown name or setting (the nearest is named), or a value out of range.
    """
    given: dict[str, Any] = {"name": config} if isinstance(config, str) else dict(config)
    entry = _entry(given)
    name = given.pop("name")
    own = settings_of(entry)
    inner: Any = given.pop("temperature", temperature) if entry.wraps and "temperature" not in own else temperature
    if "temperature" in own and not entry.wraps:
        given.setdefault("temperature", temperature)
    for key in given:
        if key not in own:
            raise ConfigError(f"loss {name!r} has no setting {key!r}{nearest(key, [*own, 'temperature'])}")
    if "domains" in inspect.signature(entry.make).parameters:
        given["domains"] = domains
    try:
        return entry.make(InfoNCE(model, inner) if entry.wraps else model, **given)
    except TypeError as error:
        shown = ", ".join(f"{key} {value!r}" for key, value in given.items())
        raise ConfigError(f"loss {name!r}: of {shown}, one has the wrong type ({error})") from error


def settings_of(entry: LossEntry) -> list[str]:
    """Return the names of a loss's settings."""
    return [name for name in list(inspect.signature(entry.make).parameters)[1:] if name not in ("domains", "teacher")]


def _entry(given: Mapping[str, Any]) -> LossEntry:
    name = given.get("name")
    if not isinstance(name, str) or name not in LOSSES:
        raise ConfigError(f"unknown loss {name!r}{nearest(str(name), LOSSES)}")
    return LOSSES[name]

"""The plan for a budget, as it is told and kept: base model, mix, what they will reach, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mogrid.errors import DataError

__all__ = ["NEAR", "Plan"]

NEAR = 0.1
"""Two mixes are as good as the same when this share of the pairs, or less, lies elsewhere."""


@dataclass(frozen=True)
class Plan:
    """What to train with a budget.

    Attributes
    ----------
    budget : float
        FLOPs; in dearest runs where the runs' are not known.
    metric, method : str
        What was chosen in, and how; see `mogrid.frontier.pick`.
    preference, at_least : dict by objective, or None
        What was asked for.
    model : str or None
        The base model; None for a size between the runs' models.
    parameters : float
        Its N.
    spend : str
        How the mix is spent.
    mix, mix_low, mix_high : dict by objective
        λ, and the 90 % interval of the choice over draws of the laws.
    pairs : dict by objective
        D_k that the budget buys.
    predicted : dict of metric to (dict by objective of {value, low, high})
        With the 90 % prediction interval of the mean over the stated number of runs.
    probability, same_model : float
        Share of draws that choose a mix within `NEAR` of this one, and this model.
    extrapolation : float
        Budget over the FLOPs of the dearest run.
    edge : tuple of str
        Where the choice lies at or beyond the edge of what was run: more may be found there.
    exchange : dict by objective
        What one more pair of each other objective is worth to it at these pairs, and what the base brings;
        `ExchangeRates.to_json`.
    recipe : str or None
        What identifies the recipe that the runs are of.
    """

    budget: float
    metric: str
    method: str
    preference: dict[str, float] | None
    at_least: dict[str, float] | None
    model: str | None
    parameters: float
    spend: str
    mix: dict[str, float]
    mix_low: dict[str, float]
    mix_high: dict[str, float]
    pairs: dict[str, float]
    predicted: dict[str, dict[str, dict[str, float]]]
    probability: float
    same_model: float
    extrapolation: float
    edge: tuple[str, ...]
    exchange: dict[str, Any]
    recipe: str | None = None

    @property
    def effort(self) -> list[float]:
        """Return the pairs that work for each objective, in the order of `mix`: see `Measurements.effort`."""
        total = sum(self.pairs.values())
        return [share * total for share in self.mix.values()]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "edge": list(self.edge)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Plan:
        """Return the plan of plain values. Raises `DataError` for fields that no plan has, or that one lacks."""
        odd = sorted({field.name for field in fields(Plan)} ^ set(value))
        if odd:
            raise DataError(f"not a plan: {', '.join(odd)}")
        return Plan(**{**value, "edge": tuple(value["edge"])})

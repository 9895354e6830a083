"""The plan for a budget, as it is told and kept: base model, mix, what they will reach, and how sure that is."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
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
        FLOPs.
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
    probability : float
        Share of draws that choose a mix within `NEAR` of this one.
    same_model : float
        Share of draws that choose this model.
    extrapolation : float
        Budget over the FLOPs of the dearest run.
    edge : tuple of str
        Where the choice lies at or beyond the edge of what was run: more may be found there.
    exchange : dict by objective
        What a pair of each other objective is worth to it, and what the base brings; `ExchangeRates.to_json`.
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

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "edge": list(self.edge)}

    def save(self, path: Path) -> None:
        """Write the plan as JSON, whole or not at all."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(json.dumps(self.to_json(), indent=2, allow_nan=False, ensure_ascii=False) + "\n", "utf-8")
        os.replace(draft, path)

    @staticmethod
    def load(path: Path) -> Plan:
        """Read what `save` wrote. Raises `DataError` for anything else."""
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error})") from error
        names = {field.name for field in fields(Plan)}
        if not isinstance(found, dict) or set(found) != names:
            odd = sorted(names ^ set(found)) if isinstance(found, dict) else []
            raise DataError(f"{path}: not a plan as `mogrid plan` writes it{': ' + ', '.join(odd) if odd else ''}")
        return Plan(**{**found, "edge": tuple(found["edge"])})

"""What one optimiser step did."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["StepReport"]


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one optimiser step did, per objective.

    Attributes
    ----------
    losses, weights : dict of float
        By objective name. An objective that needed no forward (its weight is known to be zero) has no loss.
    gradient_norms : dict of float
        Empty where no per-objective gradients were taken.
    cosines : dict of (str, str) to float
        Cosine of each pair of gradients, NaN when one of the two is zero.
    gap : float
        The solver's KKT gap relative to trace(G)/K.
    """

    losses: dict[str, float]
    weights: dict[str, float]
    gradient_norms: dict[str, float] = field(default_factory=dict)
    cosines: dict[tuple[str, str], float] = field(default_factory=dict)
    gap: float = 0.0

    def flat(self) -> dict[str, float]:
        """Return one flat mapping with keys such as ``weight/ood`` and ``cosine/ood/adversarial``, for a log.

        What is not a number is left out: the cosine with a gradient of zero, the weights of a skipped step. No JSON
        has it, and a mean over steps is to be one of the steps that have the value.
        """
        values = {f"loss/{name}": value for name, value in self.losses.items()}
        values |= {f"weight/{name}": value for name, value in self.weights.items()}
        values |= {f"gradient_norm/{name}": value for name, value in self.gradient_norms.items()}
        values |= {f"cosine/{a}/{b}": value for (a, b), value in self.cosines.items()}
        return {key: value for key, value in values.items() if math.isfinite(value)}

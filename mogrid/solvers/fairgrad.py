"""Fair shares of the improvement, from the sum to the worst."""

from __future__ import annotations

from mogrid.solvers._bargaining import bargain
from mogrid.solvers._settings import number
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["FairGrad"]


class FairGrad(Solver):
    """α-fair updates: maximise Σ (g_kᵀd)^{1−α}/(1−α) over a ball, solved by Gw = w^{−1/α}.

    Parameters
    ----------
    alpha : float
        1 is proportional fairness (Nash-MTL); towards 0 the sum of improvements counts, towards infinity the worst.

    Notes
    -----
    The equation is the optimality condition of a strictly convex programme, min ½wᵀGw − Σ φ(w_k) with φ' = w^{−1/α},
    solved by Newton's method in lengths relative to each gradient. G is brought to mean diagonal 1 first, so that the
    step does not depend on the gradients' scale. ``gap`` is the largest relative error of the equation. It is not
    small at a Pareto-stationary point, where no bargain exists; the weighted gradients then nearly cancel.

    References
    ----------
    Ban and Ji, arXiv 2402.15638.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import FairGrad, StepStatistics
    >>> FairGrad().weights(StepStatistics(("a", "b"), gramian=torch.eye(2)))
    tensor([1.0000, 1.0000], dtype=torch.float64)
    """

    name = "fairgrad"
    summary = "alpha-fair improvements: Gw = w^(-1/alpha)"
    paper = "arXiv 2402.15638"

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number(self.name, "alpha", alpha, above=0.0)

    def _solve(self, step: Step) -> tuple[Array, float]:
        return bargain(step.gramian, self.alpha)

"""A solver on the parts of a mix."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from mogrid.solvers._wrapper import Wrapper
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["Mixed"]


class Mixed(Wrapper):
    """Weigh the parts K λ_k L_k of a mix rather than the losses themselves.

    The mixed loss is Σ λ_k L_k; a solver sees its parts, and weighs them on top of the mix: equal weights leave it as
    it is. The weights that come out are those of the L_k, w_k ∝ λ_k w'_k, on the simplex.

    Parameters
    ----------
    solver : Solver
        What chooses the weights that the shares are laid over.
    shares : mapping of objective to float
        λ, positive, summing to 1, in the order of the objectives.
    """

    name = "mixed"
    summary = "a solver on the parts of a mix"
    paper = "-"

    def __init__(self, solver: Solver, shares: Mapping[str, float]) -> None:
        super().__init__(solver)
        self._shares = dict(shares)

    def _solve(self, step: Step) -> tuple[Array, float]:
        shares = np.array([self._shares[name] for name in step.objectives])
        scale = shares * len(shares)
        square = scale[:, None] * scale
        step = step._replace(
            losses=step.losses * scale if step.losses.size else step.losses,
            gramian=step.gramian * square if step.gramian.size else step.gramian,
            half_gramian=step.half_gramian * square if step.half_gramian.size else step.half_gramian,
        )
        weights, gap = self.solver._solve(step)
        weights = weights * shares
        return weights / weights.sum(), gap

    def observe(self, losses: Tensor) -> None:
        self.solver.observe(losses * losses.new_tensor(list(self._shares.values())) * len(losses))

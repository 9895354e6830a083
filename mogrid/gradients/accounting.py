"""What every engine keeps of a step: losses, the question to the solver, and the report of its answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mogrid.errors import ConfigError
from mogrid.gradients.distributed import average
from mogrid.gradients.products import Gradients
from mogrid.gradients.step import StepReport
from mogrid.solvers import NonFiniteGradientError, NonFiniteLossError, Solver, StepStatistics
from mogrid.solvers.base import Needs, Solution

__all__ = ["Accounting", "total"]


class Accounting:
    """Base of the engines.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        Those without ``requires_grad`` are left out.
    objectives : sequence of str
        Name the rows of the Jacobian, in order.
    solver : Solver
        Is asked for the weights once a step.
    reduce_losses : bool
        Whether losses are means over the ranks of the default process group.

    Attributes
    ----------
    step : int
        Optimiser steps that were taken.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], objectives: Sequence[str], solver: Solver, *, reduce_losses: bool
    ) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        self.objectives = tuple(objectives)
        self.solver = solver
        self.step = 0
        self._reduce_losses = reduce_losses
        self._losses: dict[str, Tensor] = {}
        self._totals: list[tuple[str, Tensor]] = []
        self._plan: tuple[list[str], Needs] | None = None

    def _planned(self) -> tuple[list[str], Needs]:
        """Return the objectives that need a forward and what the solver needs; `.grad` is cleared once a step.

        A solver may change its needs, but not in the middle of a step.
        """
        if self._plan is None:
            active = self.solver.active(self.objectives)
            self._plan = [name for name, on in zip(self.objectives, active, strict=True) if on], self.solver.needs
            self._clear()
        return self._plan

    @contextmanager
    def whole_or_nothing(self) -> Iterator[None]:
        """After an error there is no step that was half taken, and no ``.grad`` that an optimiser could apply."""
        try:
            yield
        except BaseException:
            self._reset()
            self._clear()
            raise

    def _clear(self) -> None:
        for p in self.parameters:
            p.grad = None

    def _reset(self) -> None:
        """Forget the step."""
        self._losses.clear()
        self._totals.clear()
        self._plan = None

    # -- losses ----------------------------------------------------------------------------------------------------

    def _note(self, name: str, loss: Tensor) -> None:
        if not isinstance(loss, Tensor) or loss.dim():
            found = f"of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"{type(loss).__name__} {loss!r}"
            raise ConfigError(
                f"the loss of {name!r} is {found}: expected a scalar tensor, such as a mean over the batch"
            )
        if not loss.requires_grad:
            raise ConfigError(f"the loss of {name!r} has no gradient: nothing that is trained reaches it")
        value = loss.detach().double()
        self._losses[name] = self._losses[name] + value if name in self._losses else value

    def _reduced_losses(self, names: Sequence[str], *, check_totals: bool = True) -> dict[str, float]:
        """Return the step's losses, the same on all ranks.

        Raises
        ------
        NonFiniteLossError, NonFiniteGradientError
            A loss is not finite, or the first objective after whose backward ``.grad`` was not.
        """
        values = torch.stack([self._losses[name] for name in names])
        totals = [value.to(values) for _, value in self._totals]
        together = torch.cat([values, torch.stack(totals)]) if totals else values
        if self._reduce_losses:
            average([together])  # what is not finite on one rank is so on all
        numbers = together.tolist()
        losses = dict(zip(names, numbers, strict=False))
        bad = {name: value for name, value in losses.items() if not math.isfinite(value)}
        if bad:
            raise NonFiniteLossError(bad, self.step)
        for (name, _), value in zip(self._totals, numbers[len(names) :], strict=True):
            if check_totals and not math.isfinite(value):
                raise NonFiniteGradientError([name], self.step)
        return losses

    def _in_order(self, losses: Mapping[str, float]) -> Tensor:
        return torch.tensor([losses[name] for name in self.objectives], dtype=torch.float64)

    # -- gradients -------------------------------------------------------------------------------------------------

    def _note_total(self, name: str) -> None:
        """Remember whether ``.grad`` is finite after an objective's backward; looked at when the step ends."""
        self._totals.append((name, total([p.grad for p in self.parameters])))

    def _require_finite(self, names: Sequence[str], values: Tensor) -> None:
        """Raise for the objectives whose value, the square of a norm say, is not finite."""
        bad = [name for name, value in zip(names, values.tolist(), strict=True) if not math.isfinite(value)]
        if bad:
            raise NonFiniteGradientError(bad, self.step)

    def _require_finite_grad(self, names: Sequence[str]) -> None:
        """Raise where the combined ``.grad`` is not finite though all was where the Gramian was formed."""
        if not math.isfinite(float(total([p.grad for p in self.parameters]))):
            raise NonFiniteGradientError(names, self.step)

    # -- the solver and the report -----------------------------------------------------------------------------------

    def _solve(
        self, needs: Needs, losses: Mapping[str, float], products: Tensor | None = None, halves: Tensor | None = None
    ) -> Solution:
        return self.solver.solve(
            StepStatistics(
                objectives=self.objectives,
                losses=None if needs == "nothing" else self._in_order(losses),
                gramian=products if needs == "gramian" else None,
                half_gramian=halves,
                step=self.step,
            )
        )

    def _by_name(self, solution: Solution) -> dict[str, float]:
        return dict(zip(self.objectives, solution.weights.tolist(), strict=True))

    def _full_report(
        self, names: Sequence[str], losses: dict[str, float], solution: Solution, products: Tensor
    ) -> StepReport:
        norms = products.diagonal().clamp(min=0).sqrt()
        cosines = products / (norms[:, None] * norms[None, :])
        return StepReport(
            losses=losses,
            weights=self._by_name(solution),
            gradient_norms=dict(zip(names, norms.tolist(), strict=True)),
            cosines={(a, b): float(cosines[i, j]) for i, a in enumerate(names) for j, b in enumerate(names) if i < j},
            gap=solution.gap,
        )

    def _skipped(self, losses: dict[str, float]) -> StepReport:
        """Report a step whose scaled gradients overflowed: the scaler sees them and skips it."""
        return StepReport(losses=losses, weights=dict.fromkeys(self.objectives, float("nan")))


def total(gradients: Gradients) -> Tensor:
    """Return the sum of all entries, which is finite exactly where all of them are, for a pass over the gradient.

    A sum in float32 would overflow where entries come near 1e30, which nothing survives anyway.
    """
    sums = [
        _values(g).sum(dtype=torch.promote_types(g.dtype, torch.float32)).double() for g in gradients if g is not None
    ]
    return torch.stack([s.to(sums[0].device) for s in sums]).sum() if sums else torch.zeros((), dtype=torch.float64)


def _values(gradient: Tensor) -> Tensor:
    local: Tensor = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return local.coalesce().values() if local.is_sparse else local

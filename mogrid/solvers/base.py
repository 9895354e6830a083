"""The contract of every weighting strategy: statistics of a step in, weights of the objectives out.

To add a method: subclass `Solver` in a file of its own, set ``name``, ``summary``, ``paper`` and ``needs``, write
``_solve``, and list the class in ``mogrid/solvers/__init__.py``. What arrives in ``_solve`` is checked and finite.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mogrid.errors import nearest
from mogrid.solvers.errors import NonFiniteGradientError, NonFiniteLossError, SolverError

__all__ = ["Array", "Needs", "Solution", "Solver", "State", "Step", "StepStatistics"]

Array = NDArray[np.float64]
Needs = Literal["nothing", "losses", "gramian"]
State = dict[str, Tensor | float | int | list[Any] | str]


@dataclass(frozen=True, slots=True)
class StepStatistics:
    """What is known of one optimiser step.

    Attributes
    ----------
    objectives : tuple of K str
    losses : Tensor, shape (K,), optional
    gramian : Tensor, shape (K, K), optional
        G = J Jᵀ of this step, or of the tracked gradients where the solver sets ``tracking``.
    half_gramian : Tensor, shape (K, K), optional
        J₁ J₂ᵀ of two independent half batches, for solvers with ``needs_halves``.
    step : int
        The optimiser step.

    Tensors may have any floating dtype and live on any device; solvers compute in float64 on the CPU.
    """

    objectives: tuple[str, ...]
    losses: Tensor | None = None
    gramian: Tensor | None = None
    half_gramian: Tensor | None = None
    step: int = 0


@dataclass(frozen=True, slots=True)
class Solution:
    """Weights, and how far they may be from solving the method's programme.

    Attributes
    ----------
    weights : Tensor, shape (K,), float64
    gap : float
        KKT gap relative to trace(G)/K; 0.0 where the weights are not the solution of a programme.
    """

    weights: Tensor
    gap: float


class Step(NamedTuple):
    """`StepStatistics` after the checks: finite float64 arrays, of which those that the solver needs are present.

    Attributes
    ----------
    losses : ndarray, shape (K,)
        Empty where the step has none and the solver does not ask for them; so are the next two.
    gramian : ndarray, shape (K, K), symmetric
    half_gramian : ndarray, shape (K, K)
    """

    objectives: tuple[str, ...]
    losses: Array
    gramian: Array
    half_gramian: Array
    step: int


_NONE: Array = np.empty(0)


class Solver(ABC):
    """Base of all weighting strategies.

    Attributes
    ----------
    needs : {"nothing", "losses", "gramian"}
        "nothing": the weights are known before the forward. "losses": they follow from the losses, so the step costs
        one backward of the weighted sum. "gramian": per-objective gradients are taken. Read it anew each step: a
        solver may switch (`EveryN`).
    needs_losses : bool
        Whether a solver that needs the Gramian reads the losses, too.
    needs_halves : bool
        Whether the step's J₁ J₂ᵀ of two independent half batches is needed.
    tracking : float or None
        β of an exponential moving average of the per-objective gradients that the engine keeps; ``gramian`` is then
        that of the tracked gradients, and the weights apply to them.
    sets_weights : bool
        Whether the weights are the user's own, which leaves no room for a mix.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]

    needs: Needs = "gramian"
    needs_losses: bool = False
    needs_halves: bool = False
    tracking: float | None = None
    sets_weights: bool = False

    # Attributes that make up the state; None stands for "no step yet" and is left out of the state dictionary.
    _state: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def _solve(self, step: Step) -> tuple[Array, float]:
        """Return the (K,) weights and the KKT gap relative to trace(G)/K."""

    def solve(self, statistics: StepStatistics) -> Solution:
        """Return the weights with their KKT gap, and advance the solver's state: call it once an optimiser step.

        Raises
        ------
        NonFiniteLossError, NonFiniteGradientError
            With the names of the objectives; the state is left as it was.
        SolverError
            Something that the solver needs is missing or has the wrong shape.
        """
        weights, gap = self._solve(self._checked(statistics))
        return Solution(torch.from_numpy(weights), gap)

    def weights(self, statistics: StepStatistics) -> Tensor:
        """Return the (K,) float64 weights of `solve`."""
        return self.solve(statistics).weights

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        """Say which objectives need a forward at all: False where the weight is known to be zero.

        Raises
        ------
        SolverError
            The solver's settings name objectives that are not there, or lack some.
        """
        return (True,) * len(objectives)

    def observe(self, losses: Tensor) -> None:  # noqa: B027 - most methods have no use for it
        """Take the (K,) losses of the same batch after the update; only some methods (FAMO) make use of it."""

    def state_dict(self) -> State:
        """Return everything that a resumed run needs to give the same bits: plain values and CPU tensors."""
        state: State = {"solver": self.name}
        for key in self._state:
            value = getattr(self, f"_{key}")
            if isinstance(value, np.ndarray):
                state[key] = torch.from_numpy(value.copy())
            elif isinstance(value, torch.Generator):
                state[key] = value.get_state()
            elif value is not None:
                state[key] = list(value) if isinstance(value, tuple) else value
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict` of a solver of the same kind and settings."""
        if state.get("solver") != self.name:
            raise SolverError(f"{self.name}: the state is that of solver {state.get('solver')!r}")
        for key in state:
            if key != "solver" and key not in self._state:
                raise SolverError(
                    f"{self.name}: the state holds {key!r}, which it does not know{nearest(key, self._state)}"
                )
        for key in self._state:
            self._restore(key, state.get(key))

    def _restore(self, key: str, value: Any) -> None:
        current = getattr(self, f"_{key}")
        if isinstance(current, torch.Generator):
            if value is None:
                raise SolverError(f"{self.name}: the state lacks {key!r}")
            current.set_state(value)
        elif isinstance(value, Tensor):
            setattr(self, f"_{key}", value.detach().cpu().numpy().astype(np.float64, copy=True))
        else:
            setattr(self, f"_{key}", tuple(value) if isinstance(value, list) else value)

    # -- checks of a step ------------------------------------------------------------------------------------------

    def _checked(self, statistics: StepStatistics) -> Step:
        objectives = statistics.objectives
        if not objectives:
            raise SolverError(f"{self.name}: there are no objectives")
        losses = gramian = half = _NONE
        needs = self.needs
        if needs == "losses" or (needs == "gramian" and self.needs_losses):
            losses = self._array(statistics, "losses", 1)
            if not np.isfinite(losses).all():
                raise NonFiniteLossError(
                    {n: v for n, v in zip(objectives, losses.tolist(), strict=True) if not math.isfinite(v)},
                    statistics.step,
                )
        if needs == "gramian":
            gramian = self._array(statistics, "gramian", 2)
            if self.needs_halves:
                half = self._array(statistics, "half_gramian", 2)
            if not np.isfinite(gramian).all() or (half.size and not np.isfinite(half).all()):
                raise NonFiniteGradientError(_non_finite_rows(objectives, gramian, half), statistics.step)
        for key in self._state:
            value = getattr(self, f"_{key}")
            if isinstance(value, np.ndarray) and value.shape[-1] != len(objectives):
                raise SolverError(
                    f"{self.name}: its state is of {value.shape[-1]} objectives, the step has {len(objectives)}"
                )
        return Step(objectives, losses, gramian, half, statistics.step)

    def _array(self, statistics: StepStatistics, field: str, dimensions: int) -> Array:
        value: Tensor | None = getattr(statistics, field)
        count = len(statistics.objectives)
        if value is None:
            raise SolverError(f"{self.name}: needs {field} of {', '.join(statistics.objectives)}; the step has none")
        if value.shape != (count,) * dimensions:
            wanted = " x ".join([str(count)] * dimensions)
            given = " x ".join(map(str, value.shape)) or "a scalar"
            raise SolverError(f"{self.name}: {field} must be {wanted} for {count} objectives, got {given}")
        if value.dtype is not torch.float64 or value.device.type != "cpu" or value.requires_grad:
            value = value.detach().to("cpu", torch.float64)
        return value.numpy()


def _non_finite_rows(objectives: Sequence[str], *products: Array) -> list[str]:
    """A gradient that is not finite spoils its row and column; only the diagonal tells whose fault it is."""
    bad = np.zeros(len(objectives), dtype=bool)
    for matrix in products:
        if matrix.size:
            bad |= ~np.isfinite(matrix.diagonal())
    if not bad.any():
        for matrix in products:
            if matrix.size:
                bad |= ~np.isfinite(matrix).all(axis=1)
    return [name for name, is_bad in zip(objectives, bad.tolist(), strict=True) if is_bad]

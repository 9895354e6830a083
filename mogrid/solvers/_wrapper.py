"""What solvers around a solver have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mogrid.solvers.base import Needs, Solver, State
from mogrid.solvers.errors import SolverError

__all__ = ["Wrapper"]

_INNER = "solver."


class Wrapper(Solver):
    """Passes on everything that it does not change."""

    def __init__(self, solver: Solver) -> None:
        if not isinstance(solver, Solver):
            raise SolverError(f"{self.name}: solver must be a Solver, got {solver!r}")
        self.solver = solver
        self.needs_losses = solver.needs_losses or solver.needs == "losses"
        self.needs_halves = solver.needs_halves
        self.tracking = solver.tracking
        self.sets_weights = solver.sets_weights

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        return self.solver.needs

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        return self.solver.active(objectives)

    def observe(self, losses: Tensor) -> None:
        self.solver.observe(losses)

    def state_dict(self) -> State:
        inner = {_INNER + key: value for key, value in self.solver.state_dict().items()}
        return super().state_dict() | inner

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({key: value for key, value in state.items() if not key.startswith(_INNER)})
        self.solver.load_state_dict({k.removeprefix(_INNER): v for k, v in state.items() if k.startswith(_INNER)})

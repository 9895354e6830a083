"""What a solver cannot work with: settings that do not fit, and losses or gradients that are not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mogrid.errors import MogridError

__all__ = ["NonFiniteGradientError", "NonFiniteLossError", "SolverError"]


class SolverError(MogridError, ValueError):
    """A solver's name, setting or input is wrong; one line that says which and what would be right."""


class NonFiniteGradientError(SolverError):
    """The gradient of at least one objective holds NaN or infinity.

    Attributes
    ----------
    objectives : tuple of str
        The objectives whose gradients are not finite.
    """

    def __init__(self, objectives: Sequence[str], step: int = 0) -> None:
        self.objectives = tuple(objectives)
        super().__init__(f"step {step}: non-finite gradient of {_listed(self.objectives)}")


class NonFiniteLossError(SolverError):
    """The loss of at least one objective is NaN or infinite.

    Attributes
    ----------
    objectives : tuple of str
        The objectives whose losses are not finite.
    """

    def __init__(self, losses: Mapping[str, float], step: int = 0) -> None:
        self.objectives = tuple(losses)
        values = ", ".join(f"{name!r} is {value}" for name, value in losses.items())
        super().__init__(f"step {step}: non-finite loss: {values}")


def _listed(names: Sequence[str]) -> str:
    plural = "objectives" if len(names) > 1 else "objective"
    return f"{plural} {', '.join(repr(name) for name in names)}"

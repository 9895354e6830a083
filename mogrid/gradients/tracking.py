"""Moving averages of the objectives' gradients, for solvers that correct the noise of mini-batches with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mogrid.errors import DataError
from mogrid.gradients.products import Gradients

__all__ = ["TrackedGradients"]


class TrackedGradients:
    """One moving average ĝ_k an objective: K more copies of the gradient."""

    def __init__(self, parameters: Sequence[nn.Parameter], objectives: Sequence[str]) -> None:
        self._parameters = parameters
        self._objectives = objectives
        self._means: dict[str, Tensor] = {}

    def advance(
        self, names: Sequence[str], rows: Sequence[Gradients], beta: float, loss_scale: float
    ) -> list[Gradients]:
        """Set ĝ ← βĝ + (1 − β)g and return them, scaled as the gradients are."""
        for name, row in zip(names, rows, strict=True):
            for i, (p, g) in enumerate(zip(self._parameters, row, strict=True)):
                mean = self._means.setdefault(f"{name}/{i}", torch.zeros_like(p, requires_grad=False)).mul_(beta)
                if g is not None:
                    mean.add_(g.to_dense() if g.is_sparse else g, alpha=(1 - beta) / loss_scale)
        count = range(len(self._parameters))
        return [[self._means[f"{name}/{i}"] * loss_scale for i in count] for name in names]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by objective and number of the parameter."""
        return dict(self._means)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state_dict` over the same parameters and objectives.

        Raises
        ------
        DataError
            A tensor belongs to no objective and parameter, or has another shape.
        """
        for key, value in state.items():
            name, _, number = key.rpartition("/")
            if name not in self._objectives or not number.isdigit() or int(number) >= len(self._parameters):
                raise DataError(f"tracked gradients: {key!r} belongs to no objective and parameter of this training")
            like = self._parameters[int(number)]
            if value.shape != like.shape:
                raise DataError(f"tracked gradients: {key!r} has shape {list(value.shape)}, not {list(like.shape)}")
            self._means[key] = value.to(device=like.device, dtype=like.dtype, copy=True)

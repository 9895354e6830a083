"""K objectives' gradients at the embeddings: cached, multiplied with one another, weighted, and sent back once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mogrid.gradients.distributed import average
from mogrid.gradients.encoding import Way
from mogrid.gradients.products import gramian
from mogrid.gradients.step import StepReport
from mogrid.solvers import NonFiniteGradientError, NonFiniteLossError, Solver, StepStatistics

__all__ = ["RepresentationCache"]


class RepresentationCache:
    """Gradients of one step at the embeddings, and at the parameters of the losses themselves ("heads").

    Parameters
    ----------
    parameters : list of nn.Parameter
    objectives : tuple of str
    solver : Solver
    reduce : bool
        Whether the objectives are means over the ranks of the default process group.
    """

    def __init__(
        self, parameters: list[nn.Parameter], objectives: tuple[str, ...], solver: Solver, reduce: bool
    ) -> None:
        self.parameters = parameters
        self.objectives = objectives
        self.solver = solver
        self.reduce = reduce
        self._losses: dict[str, Tensor] = {}
        self._heads: dict[str, list[Tensor | None]] = {}
        self._active: tuple[str, ...] | None = None

    def reset(self) -> None:
        """Forget the step."""
        self._losses.clear()
        self._heads.clear()
        self._active = None

    def take(
        self,
        calls: Mapping[str, Callable[[], Tensor]],
        encodings: Sequence[Way],
        divisor: float,
        run_backward: Callable[..., None],
    ) -> None:
        """Add one micro-batch: every objective's gradient is left with the encodings that its loss is a function of."""
        if self._active is None:
            active = self.solver.active(self.objectives)
            self._active = tuple(name for name, on in zip(self.objectives, active, strict=True) if on)
            for p in self.parameters:
                p.grad = None
        for name in self._active:
            loss = calls[name]() / divisor
            value = loss.detach().double()
            self._losses[name] = self._losses[name] + value if name in self._losses else value
            run_backward(loss, retain_graph=True)  # what hangs on it is the score matrix, not the encoder
            for encoding in encodings:
                if encoding.leaf.grad is not None:
                    encoding.gradients[name], encoding.leaf.grad = encoding.leaf.grad, None
            self._take_heads(name)

    def _take_heads(self, name: str) -> None:
        row = self._heads.setdefault(name, [None] * len(self.parameters))
        for i, p in enumerate(self.parameters):
            if p.grad is not None:
                before = row[i]
                row[i] = p.grad if before is None else before.add_(p.grad)
                p.grad = None

    def combine(self, encodings: Sequence[Way], step: int, loss_scale: float) -> StepReport:
        """Solve on the Gramian of what was taken and write Σ w_k g_k to ``.grad``, with one backward of the encoder."""
        assert self._active is not None
        names = self._active
        losses = self._reduced_losses(names, step)
        products = self._products(names, encodings) / loss_scale**2
        norms = products.diagonal().clamp(min=0).sqrt()
        finite = bool(torch.isfinite(products).all())
        if not finite and loss_scale != 1.0:
            self._write(dict.fromkeys(names, 1.0), encodings)  # a scaled gradient overflowed: the scaler skips the step
            return StepReport(losses=losses, weights=dict.fromkeys(self.objectives, float("nan")))
        needs = self.solver.needs
        if not finite and needs != "gramian":  # the solver does not look at them
            bad = [name for name, norm in zip(names, norms.tolist(), strict=True) if not math.isfinite(norm)]
            raise NonFiniteGradientError(bad, step)
        solution = self.solver.solve(
            StepStatistics(
                objectives=self.objectives,
                losses=None if needs == "nothing" else torch.tensor([losses[n] for n in names], dtype=torch.float64),
                gramian=products if needs == "gramian" else None,
                step=step,
            )
        )
        weights = dict(zip(self.objectives, solution.weights.tolist(), strict=True))
        self._write(weights, encodings)
        cosines = products / (norms[:, None] * norms[None, :])
        return StepReport(
            losses=losses,
            weights=weights,
            gradient_norms=dict(zip(names, norms.tolist(), strict=True)),
            cosines={(a, b): float(cosines[i, j]) for i, a in enumerate(names) for j, b in enumerate(names) if i < j},
            gap=solution.gap,
        )

    def _products(self, names: tuple[str, ...], encodings: Sequence[Way]) -> Tensor:
        """Return G (K, K): every rank holds some of the rows of the embeddings, and all of the heads."""
        products = gramian([[encoding.gradients.get(name) for encoding in encodings] for name in names])
        if self.reduce:
            total = products.to(self._losses[names[0]].device)
            dist.all_reduce(total)
            products = total.cpu() / dist.get_world_size() ** 2  # the objective is the mean over ranks
            for name in names:
                average([g for g in self._heads[name] if g is not None])
        return products + gramian([self._heads[name] for name in names])

    def _write(self, weights: Mapping[str, float], encodings: Sequence[Way]) -> None:
        for i, p in enumerate(self.parameters):
            p.grad = _weighted({name: row[i] for name, row in self._heads.items()}, weights)
        for encoding in encodings:
            total = _weighted(encoding.gradients, weights)
            if total is not None:
                encoding.backward(total)
        if self.reduce:
            for p in self.parameters:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad  # unused on this rank only, perhaps
            average([p.grad for p in self.parameters if p.grad is not None])

    def _reduced_losses(self, names: tuple[str, ...], step: int) -> dict[str, float]:
        values = torch.stack([self._losses[name] for name in names])
        if self.reduce:
            average([values])
        losses = dict(zip(names, values.tolist(), strict=True))
        bad = {name: value for name, value in losses.items() if not math.isfinite(value)}
        if bad:
            raise NonFiniteLossError(bad, step)
        return losses


def _weighted(gradients: Mapping[str, Tensor | None], weights: Mapping[str, float]) -> Tensor | None:
    total: Tensor | None = None
    for name, gradient in gradients.items():
        if gradient is not None:
            total = gradient.mul(weights[name]) if total is None else total.add_(gradient, alpha=weights[name])
    return total

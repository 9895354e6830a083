"""K objectives' gradients at the embeddings: cached, multiplied with one another, weighted, and sent back once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mogrid.gradients.accounting import Accounting
from mogrid.gradients.distributed import average
from mogrid.gradients.encoding import Way
from mogrid.gradients.products import gramian
from mogrid.gradients.step import StepReport
from mogrid.solvers import Solver

__all__ = ["RepresentationEngine"]


class RepresentationEngine(Accounting):
    """Gradients of one step at the embeddings, and at the parameters of the losses themselves ("heads").

    Parameters
    ----------
    parameters : list of nn.Parameter
        What is trained.
    objectives : tuple of str
        Name the rows of the Gramian, in order.
    solver : Solver
        Chooses the weights.
    encodings : list of Way
        Those of the step, to which whoever encodes adds and from which it removes them.
    reduce : bool
        Whether the objectives are means over the ranks of the default process group.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        objectives: tuple[str, ...],
        solver: Solver,
        encodings: list[Way],
        reduce: bool,
    ) -> None:
        super().__init__(parameters, objectives, solver, reduce_losses=reduce)
        self.encodings = encodings
        self.reduce = reduce
        self._heads: dict[str, list[Tensor | None]] = {}

    def _reset(self) -> None:
        super()._reset()
        self._heads.clear()

    def accumulate(
        self,
        losses: Mapping[str, Callable[[], Tensor]],
        *,
        final: bool = True,
        divisor: float = 1.0,
        run_backward: Callable[..., None] = Tensor.backward,
        loss_scale: float = 1.0,
        shared_graph: bool = False,
    ) -> StepReport | None:
        """Take one micro-batch; parameters and errors as of `GradientEngine.accumulate`.

        Every objective's gradient is left with the encodings that its loss is a function of. On the final micro-batch
        the Gramian of these is solved on, and one backward of the encoder writes Σ w_k g_k to ``.grad``.
        """
        names, _ = self._planned()
        for name in names:
            loss = losses[name]() / divisor
            self._note(name, loss)
            run_backward(loss, retain_graph=True)  # what hangs on it is the score matrix, not the encoder
            for encoding in self.encodings:
                if encoding.leaf.grad is not None:
                    encoding.gradients[name], encoding.leaf.grad = encoding.leaf.grad, None
            self._take_heads(name)
        if not final:
            return None
        report = self._combine(loss_scale)
        self._reset()
        self.step += 1
        return report

    def state_dict(self) -> dict[str, Tensor]:
        """Return nothing: gradients at the embeddings are of one step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take nothing."""

    def _take_heads(self, name: str) -> None:
        row = self._heads.setdefault(name, [None] * len(self.parameters))
        for i, p in enumerate(self.parameters):
            if p.grad is not None:
                before = row[i]
                row[i] = p.grad if before is None else before.add_(p.grad)
                p.grad = None

    def _combine(self, loss_scale: float) -> StepReport:
        names, needs = self._planned()
        losses = self._reduced_losses(names)
        products = self._products(names) / loss_scale**2
        if loss_scale != 1.0 and not bool(torch.isfinite(products).all()):
            self._write(dict.fromkeys(names, 1.0))
            return self._skipped(losses)
        if needs != "gramian":
            self._require_finite(names, products.diagonal())  # the solver does not look at them
        solution = self._solve(needs, losses, products)
        self._write(self._by_name(solution))
        if loss_scale == 1.0:
            self._require_finite_grad(names)  # the encoder's own derivative may not be, where the embeddings' is
        return self._full_report(names, losses, solution, products)

    def _products(self, names: Sequence[str]) -> Tensor:
        """Return G (K, K): every rank holds some of the rows of the embeddings, and all of the heads."""
        products = gramian([[encoding.gradients.get(name) for encoding in self.encodings] for name in names])
        if self.reduce:
            total = products.to(self._losses[names[0]].device)
            dist.all_reduce(total)
            products = total.cpu() / dist.get_world_size() ** 2  # the objective is the mean over ranks
            for name in names:
                average([g for g in self._heads[name] if g is not None])
        return products + gramian([self._heads[name] for name in names])

    def _write(self, weights: Mapping[str, float]) -> None:
        for i, p in enumerate(self.parameters):
            p.grad = _weighted({name: row[i] for name, row in self._heads.items()}, weights)
        for encoding in self.encodings:
            total = _weighted(encoding.gradients, weights)
            if total is not None:
                encoding.backward(total)
        if self.reduce:
            for p in self.parameters:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad  # unused on this rank only, perhaps
            average([p.grad for p in self.parameters if p.grad is not None])


def _weighted(gradients: Mapping[str, Tensor | None], weights: Mapping[str, float]) -> Tensor | None:
    total: Tensor | None = None
    for name, gradient in gradients.items():
        if gradient is not None:
            total = gradient.mul(weights[name]) if total is None else total.add_(gradient, alpha=weights[name])
    return total

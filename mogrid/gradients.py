"""Per-objective gradients: collect them, reduce them over processes, form their Gramian, write the combination.

This is the only place that knows about gradient accumulation, loss scaling and process groups. A solver sees the
(K,) losses and the (K, K) Gramian G = J Jᵀ; the model sees ``.grad``. Each objective's gradient is taken with a plain
``backward()``, one after the other: of all ways measured this is the cheapest, and the only one that also works with
cached losses, checkpointing, hooks, sparse embeddings and mixed precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mogrid.errors import ConfigError, DataError
from mogrid.solvers import NonFiniteGradientError, NonFiniteLossError, Solver, SolverError, StepStatistics
from mogrid.solvers.base import Needs

__all__ = ["GradientEngine", "StepReport", "backward", "gramian"]

Gradients = list[Tensor | None]

# Columns of J converted to float64 at a time: bounds the extra memory to K × this × 8 bytes.
_CHUNK = 1 << 20


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
        """Return one flat mapping with keys such as ``weight/ood`` and ``cosine/ood/adversarial``, for a log."""
        values = {f"loss/{name}": value for name, value in self.losses.items()}
        values |= {f"weight/{name}": value for name, value in self.weights.items()}
        values |= {f"gradient_norm/{name}": value for name, value in self.gradient_norms.items()}
        values |= {f"cosine/{a}/{b}": value for (a, b), value in self.cosines.items()}
        return values


def gramian(gradients: Sequence[Gradients]) -> Tensor:
    """Return G = J Jᵀ in float64 on the CPU.

    Parameters
    ----------
    gradients : sequence of K lists of P tensors
        One list per objective; None stands for a zero gradient.

    Returns
    -------
    Tensor, shape (K, K), float64
        Products are formed in float64, so gradients of norm 1e-20 do not vanish and 1e20 do not overflow.
    """
    count = len(gradients)
    device = next((g.device for row in gradients for g in row if g is not None), torch.device("cpu"))
    total = torch.zeros(count, count, dtype=torch.float64, device=device)
    small: list[list[Tensor]] = []
    small_size = 0

    def flush() -> None:
        nonlocal small_size
        if small:
            matrix = torch.stack([torch.cat(column) for column in zip(*small, strict=True)]).double()
            total.addmm_(matrix, matrix.T)
            small.clear()
            small_size = 0

    for column in zip(*gradients, strict=True):
        present = next((g for g in column if g is not None), None)
        if present is None:
            continue
        if any(g is not None and g.is_sparse for g in column):
            total += _sparse_products(column, total)
            continue
        flat = [torch.zeros_like(present).flatten() if g is None else g.flatten() for g in column]
        if present.numel() <= _CHUNK // 16:  # few large products beat many small ones
            small.append(flat)
            small_size += present.numel()
            if small_size > _CHUNK:
                flush()
            continue
        for start in range(0, present.numel(), _CHUNK):
            matrix = torch.stack([g[start : start + _CHUNK] for g in flat]).double()
            total.addmm_(matrix, matrix.T)
    flush()
    return total.cpu()


def _sparse_products(column: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """(K, K) products of one parameter's sparse gradients (``nn.Embedding(sparse=True)``)."""
    products = torch.zeros_like(like)
    rows = [None if g is None else g.to_sparse().coalesce().double() for g in column]
    for i, a in enumerate(rows):
        for j, b in enumerate(rows[: i + 1]):
            if a is not None and b is not None:
                products[i, j] = products[j, i] = torch.sparse.sum(a * b)
    return products


def _sum(first: Gradients, second: Gradients) -> Gradients:
    return [b if a is None else a if b is None else a + b for a, b in zip(first, second, strict=True)]


class GradientEngine:
    """Turn per-objective losses into one combined ``.grad``, step by step.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        What is trained. Parameters without ``requires_grad`` are left out.
    objectives : sequence of str
        Names, in the order of the Jacobian's rows.
    solver : Solver
        Chooses the weights.
    gradient_statistics : bool
        Take per-objective gradients, hence norms and cosines, also when the solver does not need them. Costs K - 1
        copies of the gradient in memory; without it such a solver costs one ordinary backward.
    reduce : bool
        Average losses and gradients over the default process group before the Gramian is formed, so that every rank
        solves the same problem. Forwards must then run without gradient synchronisation (``no_sync``).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        objectives: Sequence[str],
        solver: Solver,
        *,
        gradient_statistics: bool = True,
        reduce: bool = False,
    ) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        self.objectives = tuple(objectives)
        self.solver = solver
        self.gradient_statistics = gradient_statistics
        self.reduce = reduce
        self.step = 0
        self._buffers: dict[tuple[str, int], Gradients] = {}
        self._losses: dict[str, Tensor] = {}
        self._tracked: dict[str, Tensor] = {}
        self._micro_batch = 0
        self._weights: dict[str, float] | None = None
        self._plan: tuple[list[str], Needs] | None = None

    def accumulate(
        self,
        losses: Mapping[str, Callable[[], Tensor]],
        *,
        final: bool = True,
        divisor: float = 1.0,
        run_backward: Callable[..., None] = Tensor.backward,
        loss_scale: float = 1.0,
        shared_graph: bool | Collection[str] = False,
    ) -> StepReport | None:
        """Take one micro-batch; on the final one of the step, solve and write ``.grad``, whatever stood there before.

        Parameters
        ----------
        losses : mapping of name to a function that runs the forward and returns a scalar
            Functions rather than values, so that one objective's graph is freed before the next one is built.
        final : bool
            Whether the optimiser steps after this micro-batch. Gradients of all micro-batches are summed per
            objective before the Gramian is formed, so cross terms between micro-batches are included.
        divisor : float
            Number of micro-batches of the step; losses are divided by it.
        run_backward : callable
            Called with a loss and ``retain_graph=`` in place of ``Tensor.backward`` (accelerate, scalers).
        loss_scale : float
            The factor that ``run_backward`` applies; removed from the Gramian, kept in ``.grad``.
        shared_graph : bool or collection of str
            Whether the losses are functions of one forward, whose graph must outlive all backwards but the last; or
            the names after whose backward the graph is still needed.

        Returns
        -------
        StepReport or None
            None until the final micro-batch.

        Raises
        ------
        NonFiniteLossError
            A loss is NaN or infinite. ``.grad`` is cleared first, so no optimiser can apply it.
        NonFiniteGradientError
            A gradient is, and no loss scaler stands ready to skip the step.
        """
        if self._plan is None:  # a solver may change its needs, but not in the middle of a step
            active = self.solver.active(self.objectives)
            names = [name for name, on in zip(self.objectives, active, strict=True) if on]
            self._plan = names, self.solver.needs
            for p in self.parameters:
                p.grad = None
        names, needs = self._plan
        # Weights that depend on the step's losses are known only after its last micro-batch.
        together = needs == "losses" and final and divisor == 1 and not self.gradient_statistics
        separate = not together and (needs != "nothing" or self.gradient_statistics)
        if together:
            report = self._backward_together(names, losses, run_backward)
        else:
            scale = dict.fromkeys(names, 1.0) if separate else self._known_weights()
            kept: Collection[str] = (
                (names[:-1] if shared_graph else ()) if isinstance(shared_graph, bool) else shared_graph
            )
            for name in names:
                loss = losses[name]() / divisor
                self._note(name, loss)
                run_backward(loss * scale[name], retain_graph=name in kept)
                if separate:
                    self._collect(name, self._micro_batch % 2 if self.solver.needs_halves else 0)
            self._micro_batch += 1
            if not final:
                return None
            if self.solver.needs_halves and self._micro_batch % 2:
                self._reset()
                raise ConfigError(
                    f"solver {self.solver.name!r} compares two independent half batches: accumulate gradients over an "
                    "even number of micro-batches (gradient_accumulation_steps=2)"
                )
            report = self._combine(names, needs, loss_scale) if separate else self._report(names, scale)
        self._reset()
        self.step += 1
        return report

    # -- one backward of the weighted sum --------------------------------------------------------------------------

    def _known_weights(self) -> dict[str, float]:
        """Ask once a step, not once a micro-batch: asking draws random weights, or moves a schedule on."""
        if self._weights is None:
            weights = self.solver.weights(StepStatistics(objectives=self.objectives, step=self.step))
            self._weights = dict(zip(self.objectives, weights.tolist(), strict=True))
        return self._weights

    def _backward_together(
        self, names: list[str], losses: Mapping[str, Callable[[], Tensor]], run_backward: Callable[..., None]
    ) -> StepReport:
        values = {name: losses[name]() for name in names}
        for name, loss in values.items():
            self._note(name, loss)
        losses_now = self._in_order(self._reduced_losses(names))
        solution = self.solver.solve(StepStatistics(objectives=self.objectives, losses=losses_now, step=self.step))
        weights = dict(zip(self.objectives, solution.weights.tolist(), strict=True))
        run_backward(torch.stack([value * weights[name] for name, value in values.items()]).sum(), retain_graph=False)
        return self._report(names, weights)

    def _report(self, names: list[str], weights: dict[str, float]) -> StepReport:
        losses = self._reduced_losses(names)
        if self.reduce:
            gradients: Gradients = [p.grad for p in self.parameters]
            for p, g in zip(self.parameters, self._all_reduce(gradients), strict=True):
                p.grad = g
        return StepReport(losses=losses, weights={name: weights[name] for name in self.objectives})

    # -- K backwards and a Gramian ---------------------------------------------------------------------------------

    def _collect(self, name: str, half: int) -> None:
        """Move ``.grad`` into the objective's buffer: the first micro-batch gives its tensors, later ones add."""
        buffer = self._buffers.get((name, half))
        if buffer is None:
            self._buffers[name, half] = [p.grad for p in self.parameters]
        else:
            for i, p in enumerate(self.parameters):
                if p.grad is not None:
                    previous = buffer[i]
                    buffer[i] = p.grad if previous is None else previous.add_(p.grad)
        for p in self.parameters:
            p.grad = None

    def _combine(self, names: list[str], needs: Needs, loss_scale: float) -> StepReport:
        losses = self._reduced_losses(names)
        rows = [self._buffers[key] for key in sorted(self._buffers, key=lambda key: (key[1], names.index(key[0])))]
        if self.reduce:
            rows = [self._all_reduce(row) for row in rows]
        products = gramian(rows) / loss_scale**2
        halves = None
        if len(rows) > len(names):
            count = len(names)
            # Each half's gradient is the mean over its own micro-batches: twice its part of the step's mean.
            halves = 4 * products[:count, count:]
            products = products.reshape(2, count, 2, count).sum(dim=(0, 2))
            rows = [_sum(first, second) for first, second in zip(rows[:count], rows[count:], strict=True)]
        if loss_scale != 1.0 and not bool(torch.isfinite(products).all()):
            # A scaled gradient overflowed: hand it on as it is, the scaler sees it and skips the step.
            self._write(rows, [1.0] * len(rows))
            return StepReport(losses=losses, weights=dict.fromkeys(self.objectives, float("nan")))
        norms = products.diagonal().clamp(min=0).sqrt()
        cosines = products / (norms[:, None] * norms[None, :])
        if needs != "gramian":
            self._require_finite(names, products)  # the solver does not look at them
        elif self.solver.tracking is not None:
            self._require_finite(names, products)
            rows = self._track(names, rows, self.solver.tracking, loss_scale)
            products = gramian(rows) / loss_scale**2
        try:
            solution = self.solver.solve(
                StepStatistics(
                    objectives=self.objectives,
                    losses=None if needs == "nothing" else self._in_order(losses),
                    gramian=products if needs == "gramian" else None,
                    half_gramian=halves,
                    step=self.step,
                )
            )
        except SolverError:
            self._reset()
            raise
        weights = dict(zip(self.objectives, solution.weights.tolist(), strict=True))
        self._write(rows, [weights[name] for name in names])
        return StepReport(
            losses=losses,
            weights=weights,
            gradient_norms=dict(zip(names, norms.tolist(), strict=True)),
            cosines={
                (a, b): float(cosines[i, j])
                for i, a in enumerate(names)
                for j, b in enumerate(names[i + 1 :], start=i + 1)
            },
            gap=solution.gap,
        )

    def _track(self, names: list[str], rows: list[Gradients], beta: float, loss_scale: float) -> list[Gradients]:
        """Advance the moving averages ĝ ← βĝ + (1 − β)g and return them, scaled as the gradients are."""
        for name, row in zip(names, rows, strict=True):
            for i, (p, g) in enumerate(zip(self.parameters, row, strict=True)):
                mean = self._tracked.setdefault(f"{name}/{i}", torch.zeros_like(p, requires_grad=False)).mul_(beta)
                if g is not None:
                    mean.add_(g.to_dense() if g.is_sparse else g, alpha=(1 - beta) / loss_scale)
        count = range(len(self.parameters))
        return [[self._tracked[f"{name}/{i}"] * loss_scale for i in count] for name in names]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tracked gradients; empty for solvers that track none."""
        return dict(self._tracked)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state_dict` over the same parameters and objectives."""
        for key, value in state.items():
            name, _, number = key.rpartition("/")
            if name not in self.objectives or not number.isdigit() or int(number) >= len(self.parameters):
                raise DataError(f"tracked gradients: {key!r} belongs to no objective and parameter of this training")
            like = self.parameters[int(number)]
            if value.shape != like.shape:
                raise DataError(f"tracked gradients: {key!r} has shape {list(value.shape)}, not {list(like.shape)}")
            self._tracked[key] = value.to(device=like.device, dtype=like.dtype, copy=True)

    def _require_finite(self, names: list[str], products: Tensor) -> None:
        bad = [
            name for name, value in zip(names, products.diagonal().tolist(), strict=True) if not math.isfinite(value)
        ]
        if bad:
            self._reset()
            raise NonFiniteGradientError(bad, self.step)

    def _write(self, rows: list[Gradients], weights: list[float]) -> None:
        """Form Σ w_k g_k in the first row's tensors and make them ``.grad``."""
        for i, p in enumerate(self.parameters):
            total: Tensor | None = None
            for row, weight in zip(rows, weights, strict=True):
                g = row[i]
                if g is not None:
                    total = g.mul_(weight) if total is None else total.add_(g, alpha=weight)
            p.grad = total

    # -- shared ----------------------------------------------------------------------------------------------------

    def _note(self, name: str, loss: Tensor) -> None:
        value = loss.detach().double()
        self._losses[name] = self._losses[name] + value if name in self._losses else value

    def _reduced_losses(self, names: list[str]) -> dict[str, float]:
        values = torch.stack([self._losses[name] for name in names])
        if self.reduce:
            dist.all_reduce(values)
            values /= dist.get_world_size()
        losses = dict(zip(names, values.tolist(), strict=True))
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            self._reset()
            for p in self.parameters:
                p.grad = None
            raise NonFiniteLossError({name: losses[name] for name in bad}, self.step)
        return losses

    def _all_reduce(self, gradients: Gradients) -> Gradients:
        """Average over ranks in one message; a parameter unused on one rank only counts as zero there."""
        dense = [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, gradients, strict=True)]
        bucket = torch.cat([g.flatten() for g in dense])
        dist.all_reduce(bucket)
        bucket /= dist.get_world_size()
        parts = bucket.split([g.numel() for g in dense])
        return [part.view_as(g) for part, g in zip(parts, dense, strict=True)]

    def _in_order(self, losses: dict[str, float]) -> Tensor:
        return torch.tensor([losses[name] for name in self.objectives], dtype=torch.float64)

    def _reset(self) -> None:
        self._buffers.clear()
        self._losses.clear()
        self._weights = self._plan = None
        self._micro_batch = 0


def backward(
    losses: Mapping[str, Tensor] | Sequence[Tensor],
    parameters: Iterable[nn.Parameter],
    solver: Solver,
    *,
    gradient_statistics: bool = False,
) -> StepReport:
    """Write the solver's combination of the losses' gradients into ``.grad``, in a loop of your own.

    Parameters
    ----------
    losses : mapping of name to scalar Tensor, or sequence of scalars
        They may share a graph. A sequence's objectives are called ``"0"``, ``"1"``, ...
    parameters : iterable of nn.Parameter
    solver : Solver
        Keep one for the whole training: many have a state.
    gradient_statistics : bool
        Take gradient norms and cosines even when the solver needs no gradients.

    Examples
    --------
    >>> import torch
    >>> from mogrid import MGDA, backward
    >>> x = torch.nn.Parameter(torch.tensor([0.0, 3.0]))
    >>> report = backward([(x - 1).square().sum(), (x + 1).square().sum()], [x], MGDA())
    >>> report.weights
    {'0': 0.5, '1': 0.5}
    """
    named = losses if isinstance(losses, Mapping) else {str(i): loss for i, loss in enumerate(losses)}
    engine = GradientEngine(parameters, tuple(named), solver, gradient_statistics=gradient_statistics)
    report = engine.accumulate({name: partial(_given, loss) for name, loss in named.items()}, shared_graph=True)
    assert report is not None  # a single micro-batch is the final one
    return report


def _given(loss: Tensor) -> Tensor:
    return loss

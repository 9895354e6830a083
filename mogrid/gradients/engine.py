"""The engine: K backwards, one solve, one combined ``.grad``.

Each objective's gradient is taken with a plain ``backward()``, one after the other: of all ways measured this is the
cheapest, and the only one that also works with cached losses, checkpointing, hooks, sparse embeddings and mixed
precision.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mogrid.errors import ConfigError
from mogrid.gradients.accounting import Accounting, total
from mogrid.gradients.distributed import Shards, average, averaged
from mogrid.gradients.probes import Probe
from mogrid.gradients.products import Gradients, gramian
from mogrid.gradients.step import StepReport
from mogrid.gradients.tracking import TrackedGradients
from mogrid.solvers import Solver, StepStatistics
from mogrid.solvers._mixed import Mixed
from mogrid.solvers.base import Needs

__all__ = ["GradientEngine"]


def _sum(first: Gradients, second: Gradients) -> Gradients:
    return [b if a is None else a if b is None else a + b for a, b in zip(first, second, strict=True)]


class GradientEngine(Accounting):
    """Turn per-objective losses into one combined ``.grad``, step by step.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        What is trained. Parameters without ``requires_grad`` are left out.
    objectives : sequence of str
        Name the rows of the Jacobian, in order.
    solver : Solver
        Chooses the weights; it keeps its state over the training.
    gradient_statistics : bool
        Take per-objective gradients, hence norms and cosines, also when the solver does not need them. Costs K - 1
        copies of the gradient in memory; without it such a solver costs one ordinary backward.
    reduce : bool
        Average losses and gradients over the default process group before the Gramian is formed, so that every rank
        solves the same problem. Forwards must then run without gradient synchronisation (``no_sync``). Parameters
        sharded by ``fully_shard`` (FSDP2) are recognised; they synchronise themselves.
    probe : Probe, optional
        What the Gramian is formed from in place of the whole gradients.

    Raises
    ------
    ConfigError
        The solver keeps moving averages of the gradients, which no probe has; or shards are of a kind not supported.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        objectives: Sequence[str],
        solver: Solver,
        *,
        gradient_statistics: bool = True,
        reduce: bool = False,
        probe: Probe | None = None,
    ) -> None:
        if probe is not None and solver.tracking is not None:
            raise ConfigError(f"solver {solver.name!r} tracks the gradients themselves: set gradients='exact'")
        trained = [p for p in parameters if p.requires_grad]
        self.shards = Shards(trained)
        super().__init__(trained, objectives, solver, reduce_losses=reduce or bool(self.shards))
        self.gradient_statistics = gradient_statistics
        self.probe = probe
        if self.shards and probe is not None:
            raise ConfigError("gradients: sharded parameters need the mode 'exact'; its Gramian costs no traffic")
        self.reduce = reduce and not self.shards  # gradients; those of shards come averaged
        self._buffers: dict[tuple[str, int], Gradients] = {}
        self._tracked = TrackedGradients(self.parameters, self.objectives)
        self._micro_batch = 0
        self._weights: dict[str, float] | None = None

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
        with self.whole_or_nothing():
            names, needs = self._planned()
            self._micro_batch += 1
            # Which way a step goes; the first line that fits.
            #
            #   the solver needs   also                                       way
            #   "losses"           one micro-batch, no statistics             one backward of the weighted sum
            #   "gramian"          one micro-batch, one graph, a probe that   K backwards that end early, solve, one
            #                      can end early, no halves                   backward of the weighted sum
            #   "nothing"          no statistics                              K weighted backwards straight into .grad
            #   anything           (losses of several micro-batches are       K backwards into buffers, solve, Σ w_k g_k
            #                      known only when their graphs are gone)
            alone = final and divisor == 1
            if needs == "losses" and alone and not self.gradient_statistics:
                report = self._backward_together(names, losses, run_backward, loss_scale)
            elif alone and self._ends_early(names, needs, shared_graph):
                report = self._solve_early(names, needs, losses, run_backward, loss_scale)
            else:
                separate = needs != "nothing" or self.gradient_statistics
                self._backward_each(names, losses, separate, divisor, run_backward, shared_graph)
                if not final:
                    return None
                report = self._combine(names, needs, loss_scale) if separate else self._added_up(names, loss_scale)
        self._reset()
        self.step += 1
        return report

    def _backward_each(
        self,
        names: list[str],
        losses: Mapping[str, Callable[[], Tensor]],
        separate: bool,
        divisor: float,
        run_backward: Callable[..., None],
        shared_graph: bool | Collection[str],
    ) -> None:
        kept: Collection[str] = (names[:-1] if shared_graph else ()) if isinstance(shared_graph, bool) else shared_graph
        weights = {} if separate else self._known_weights()
        for name in names:
            loss = losses[name]() / divisor
            self._note(name, loss)
            run_backward(loss * weights.get(name, 1.0), retain_graph=name in kept)
            if separate:
                self._collect(name, (self._micro_batch - 1) % 2 if self.solver.needs_halves else 0)
            else:
                self._note_total(name)

    # -- one backward of the weighted sum --------------------------------------------------------------------------

    def _known_weights(self) -> dict[str, float]:
        """Ask once a step, not once a micro-batch: asking draws random weights, or moves a schedule on."""
        if self._weights is None:
            weights = self.solver.weights(StepStatistics(objectives=self.objectives, step=self.step))
            self._weights = dict(zip(self.objectives, weights.tolist(), strict=True))
        return self._weights

    def _backward_together(
        self,
        names: list[str],
        losses: Mapping[str, Callable[[], Tensor]],
        run_backward: Callable[..., None],
        loss_scale: float,
    ) -> StepReport:
        values = {name: losses[name]() for name in names}
        for name, loss in values.items():
            self._note(name, loss)
        losses_now = self._reduced_losses(names)
        weights = self._by_name(self._solve("losses", losses_now))
        run_backward(torch.stack([value * weights[name] for name, value in values.items()]).sum(), retain_graph=False)
        if self.reduce:
            self._average_grad()
        if loss_scale == 1.0:
            self._require_finite_grad(names)
        return StepReport(losses=losses_now, weights=weights)

    def _added_up(self, names: list[str], loss_scale: float) -> StepReport:
        losses = self._reduced_losses(names, check_totals=loss_scale == 1.0)
        if self.reduce:
            self._average_grad()
        return StepReport(losses=losses, weights=dict(self._known_weights()))

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
        if self.solver.needs_halves and self._micro_batch % 2:
            given = self.solver.solver if isinstance(self.solver, Mixed) else self.solver  # as the user calls it
            raise ConfigError(
                f"solver {given.name!r} compares two independent half batches: accumulate gradients over an "
                "even number of micro-batches (gradient_accumulation_steps=2)"
            )
        losses = self._reduced_losses(names)
        rows = [self._buffers[key] for key in sorted(self._buffers, key=lambda key: (key[1], names.index(key[0])))]
        if self.reduce and self.probe is None:
            rows = [averaged(row, self.parameters) for row in rows]
        products = self._products(rows) / loss_scale**2
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
            return self._skipped(losses)
        seen = products
        if needs != "gramian" or self.solver.tracking is not None:
            self._require_finite(names, products.diagonal())  # the solver does not look at them
        if self.probe is not None and self.probe.at is not None:
            self._require_finite(names, self._totals_of(rows))  # it sees a part of them
        if needs == "gramian" and self.solver.tracking is not None:
            rows = self._tracked.advance(names, rows, self.solver.tracking, loss_scale)
            products = self._products(rows) / loss_scale**2
        solution = self._solve(needs, losses, products, halves)
        weights = solution.weights.tolist()
        self._write(rows, [weights[self.objectives.index(name)] for name in names])
        return self._full_report(names, losses, solution, seen)

    def _products(self, rows: list[Gradients]) -> Tensor:
        """Return the Gramian of what the probe sees of the gradients, averaged over ranks where they are not yet."""
        if self.shards:
            return self.shards.gramian(rows)
        if self.probe is None:
            return gramian(rows)
        parts = [self.probe(row) for row in rows]
        if self.reduce:
            parts = [[part.clone() for part in row] for row in parts]  # the gradients themselves stay local
            average([part for row in parts for part in row])
        return gramian([list(row) for row in parts])

    # -- K backwards that end early, a Gramian, and one whole backward ---------------------------------------------

    def _ends_early(self, names: list[str], needs: Needs, shared_graph: bool | Collection[str]) -> bool:
        """Over one graph, a backward that ends early saves nearly all of it; over K, all K would have to be kept."""
        one_graph = shared_graph if isinstance(shared_graph, bool) else set(names[:-1]) <= set(shared_graph)
        able = self.probe is not None and self.probe.at is not None
        return able and one_graph and needs == "gramian" and not self.solver.needs_halves

    def _solve_early(
        self,
        names: list[str],
        needs: Needs,
        losses: Mapping[str, Callable[[], Tensor]],
        run_backward: Callable[..., None],
        loss_scale: float,
    ) -> StepReport:
        assert self.probe is not None
        assert self.probe.at is not None
        at = self.probe.at
        values = {name: losses[name]() for name in names}
        rows: list[Gradients] = []
        for name, value in values.items():
            self._note(name, value)
            rows.append(_gradients_at(at, value * loss_scale, name))
        losses_now = self._reduced_losses(names)
        if self.reduce:
            average([part for row in rows for part in row if part is not None])
        products = gramian(rows) / loss_scale**2
        overflow = loss_scale != 1.0 and not bool(torch.isfinite(products).all())
        solution = None if overflow else self._solve(needs, losses_now, products)
        weights = dict.fromkeys(names, 1.0) if solution is None else self._by_name(solution)
        run_backward(torch.stack([v * weights[name] for name, v in values.items()]).sum(), retain_graph=False)
        if self.reduce:
            self._average_grad()
        if solution is None:
            return self._skipped(losses_now)
        if loss_scale == 1.0:
            self._require_finite_grad(names)
        return self._full_report(names, losses_now, solution, products)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tracked gradients; empty for solvers that track none."""
        return self._tracked.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state_dict` over the same parameters and objectives."""
        self._tracked.load_state_dict(state)

    def _totals_of(self, rows: list[Gradients]) -> Tensor:
        totals = torch.stack([total(row) for row in rows])
        if self.reduce:
            average([totals])
        return totals

    def _write(self, rows: list[Gradients], weights: list[float]) -> None:
        """Form Σ w_k g_k in the first row's tensors and make them ``.grad``."""
        for i, p in enumerate(self.parameters):
            combined: Tensor | None = None
            for row, weight in zip(rows, weights, strict=True):
                g = row[i]
                if g is None:
                    continue
                if combined is not None and combined.is_sparse and not g.is_sparse:
                    combined = g.mul_(weight).add_(combined)  # torch adds sparse to dense alone
                else:
                    combined = g.mul_(weight) if combined is None else combined.add_(g, alpha=weight)
            p.grad = combined
        if self.reduce and self.probe is not None:
            self._average_grad()  # until here the gradients were this rank's own

    def _average_grad(self) -> None:
        gradients: Gradients = [p.grad for p in self.parameters]
        for p, g in zip(self.parameters, averaged(gradients, self.parameters), strict=True):
            p.grad = g

    def _reset(self) -> None:
        super()._reset()
        self._buffers.clear()
        self._weights = None
        self._micro_batch = 0


def _gradients_at(at: Sequence[Tensor], value: Tensor, name: str) -> Gradients:
    hidden: RuntimeError | None = None
    gradients: Sequence[Tensor | None] = ()
    try:
        gradients = torch.autograd.grad(value, at, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        if "not compatible with .grad()" not in str(error):  # torch's words for re-entrant checkpoints
            raise
        hidden = error
    if all(g is None for g in gradients):
        raise ConfigError(
            f"gradients: the loss of {name!r} does not reach where the Gramian is formed: checkpointing with "
            "use_reentrant=True and cached losses hide the encoder's backward; set mode 'exact'"
        ) from hidden
    return [torch.zeros_like(t) if g is None else g for g, t in zip(gradients, at, strict=True)]

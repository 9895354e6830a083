"""The gradient cache (GradCache, arXiv 2101.06983) with a solver between its two passes.

GradCache encodes without a graph, takes the loss's gradient at the embeddings, and encodes again with a graph, one
mini-batch at a time. With K objectives the cache holds K gradients at the embeddings; their Gramian is what MGDA-UB
(arXiv 1810.04650) solves on, so the weights are known before the second pass, and one encoder backward of the weighted
gradient is all that is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mogrid.errors import ConfigError, nearest
from mogrid.flops import charge_to, charged
from mogrid.gradients.encoding import Encoding, Kept, Way
from mogrid.gradients.engine import GradientEngine
from mogrid.gradients.interception import embeddings_of, intercepted
from mogrid.gradients.representation import RepresentationEngine
from mogrid.gradients.step import StepReport
from mogrid.solvers import Solver

__all__ = ["CachedEngine"]

Losses = Mapping[str, Tensor | Callable[[], Tensor]]


class CachedEngine:
    """Turn the objectives' losses of large batches into one combined ``.grad``, in the memory of a mini-batch.

    In a loop of your own, encode with `encode`, compute any losses from the embeddings, and hand them to `backward`.
    Losses that call the model themselves, such as those of sentence-transformers, need no change: while a function
    given to `backward` runs, the model's forward goes through `encode`. Losses that reach into the encoder (hooks,
    token embeddings, `FGM`) do not fit, nor do losses with a gradient cache of their own.

    Parameters
    ----------
    model : nn.Module
        Called with a mapping of features; returns embeddings, or a mapping that holds them as ``sentence_embedding``.
    objectives : sequence of str
        Name the rows of the Gramian, in order.
    solver : Solver
        Chooses the weights; it keeps its state over the training.
    parameters : iterable of nn.Parameter, optional
        What is trained, by default the model's parameters. Parameters of a loss get their gradient as well.
    mini_batch_size : int or None
        Texts encoded at a time. None: there is no cache but one pass with a graph, in the time and memory of fixed
        weights; only the Gramian is formed at the embeddings.
    gramian : {"representation", "exact"}
        What the weights follow from; the combined gradient Σ w_k g_k is exact in both.

        "representation": G_kl = ⟨∂L_k/∂E, ∂L_l/∂E⟩ over all embeddings E of the step. The encoder is run twice
        forward and once backward, whatever K; K × B × d floats are kept. An upper bound stands in for the gradients'
        own Gramian (MGDA-UB), and objectives that embed different texts share no row: their G is diagonal, so that
        conflicts between them, which arise in the encoder, are not seen.

        "exact": G_kl = ⟨g_k, g_l⟩ over the parameters; the second pass is made for one objective after the other and
        K copies of the gradient are kept. Where objectives embed different texts this costs no more time than
        "representation"; texts that several objectives share are encoded with a graph once for each.
    gradient_statistics : bool
        For "exact": take per-objective gradients also when the solver does not need them.
    reduce : bool
        Average over the default process group. The model must run without gradient synchronisation (``no_sync``).

    Raises
    ------
    ConfigError
        A setting has a wrong value, or the solver needs the gradients themselves (moving averages of them, or
        independent half batches), which only "exact" has.

    Examples
    --------
    >>> engine = CachedEngine(model, ("effectiveness", "typos"), MGDA(), mini_batch_size=32)  # doctest: +SKIP
    >>> for batch in batches:  # doctest: +SKIP
    ...     query, typo, document = (engine.encode(batch[c]) for c in ("query", "typo", "document"))
    ...     report = engine.backward(
    ...         {"effectiveness": masked_info_nce(query, document), "typos": masked_info_nce(typo, document)}
    ...     )
    ...     optimiser.step()
    """

    def __init__(
        self,
        model: nn.Module,
        objectives: Sequence[str],
        solver: Solver,
        *,
        parameters: Iterable[nn.Parameter] | None = None,
        mini_batch_size: int | None = 32,
        gramian: Literal["representation", "exact"] = "representation",
        gradient_statistics: bool = True,
        reduce: bool = False,
    ) -> None:
        if mini_batch_size is None and gramian != "representation":
            raise ConfigError("gramian: without a cache, the exact one is that of GradientEngine")
        if mini_batch_size is not None and (not isinstance(mini_batch_size, int) or mini_batch_size < 1):
            raise ConfigError(f"mini_batch_size: expected a positive whole number, got {mini_batch_size!r}")
        if gramian not in ("representation", "exact"):
            raise ConfigError(f"gramian: expected 'representation' or 'exact', got {gramian!r}")
        if gramian == "representation" and (solver.needs_halves or solver.tracking is not None):
            raise ConfigError(f"solver {solver.name!r} needs the gradients of the parameters: set gramian='exact'")
        self.model = model
        self.objectives = tuple(objectives)
        self.solver = solver
        self.mini_batch_size = mini_batch_size
        self.parameters = [p for p in (model.parameters() if parameters is None else parameters) if p.requires_grad]
        self._encodings: list[Way] = []
        self._inner: GradientEngine | RepresentationEngine
        if gramian == "exact":
            self._inner = GradientEngine(
                self.parameters, self.objectives, solver, gradient_statistics=gradient_statistics, reduce=reduce
            )
        else:
            self._inner = RepresentationEngine(self.parameters, self.objectives, solver, self._encodings, reduce)

    @property
    def step(self) -> int:
        """Optimiser steps that were taken."""
        return self._inner.step

    @step.setter
    def step(self, step: int) -> None:
        self._inner.step = step

    # -- first pass ------------------------------------------------------------------------------------------------

    def encode(self, features: Mapping[str, Any], **options: Any) -> Tensor:
        """Encode one batch of texts without a graph and remember it for the second pass.

        Parameters
        ----------
        features : mapping
            Tensors of shape (B, ...) and settings that apply to the whole batch, as the model takes them.
        **options
            Are handed to the model.

        Returns
        -------
        Tensor, shape (B, d)
            A leaf that requires a gradient; under ``torch.no_grad`` a plain tensor, of which nothing is remembered.
        """
        return self._encode(partial(self.model, **options), features)

    def _encode(self, forward: Callable[[dict[str, Any]], Any], features: Mapping[str, Any]) -> Tensor:
        objective = charged()

        def embed(part: dict[str, Any]) -> Tensor:
            before = charge_to(objective)  # the second pass comes when the loss has long returned
            try:
                return embeddings_of(forward(part))
            finally:
                charge_to(before)

        if self.mini_batch_size is None and not torch.is_grad_enabled():
            return embed(dict(features))
        encoding: Way = (
            Kept(embed, features) if self.mini_batch_size is None else Encoding(embed, features, self.mini_batch_size)
        )
        if not torch.is_grad_enabled():
            return encoding.leaf.detach()
        self._encodings.append(encoding)
        return encoding.leaf

    def _call(self, loss: Callable[[], Tensor]) -> Tensor:
        with intercepted(self.model, self._encode):
            return loss()

    # -- the step --------------------------------------------------------------------------------------------------

    def backward(self, losses: Losses, *, final: bool = True, divisor: float = 1.0) -> StepReport | None:
        """Solve for the weights and write the combined gradient to ``.grad``, whatever stood there before.

        Parameters
        ----------
        losses : mapping of name to scalar Tensor, or to a function that returns one
            Tensors are functions of what `encode` returned since the last call; functions may call the model.
        final : bool
            Whether the optimiser steps after this call; otherwise the next one adds to it (accumulation).
        divisor : float
            Number of calls of the step; losses are divided by it.

        Returns
        -------
        StepReport or None
            None until the final call. Gradient norms and cosines are those of the Gramian that was solved on.

        Raises
        ------
        NonFiniteLossError, NonFiniteGradientError
            ``.grad`` is None then, so no optimiser can apply it.
        """
        calls = {name: partial(_given, loss) if isinstance(loss, Tensor) else loss for name, loss in losses.items()}
        return self.accumulate(calls, final=final, divisor=divisor, shared_graph=True)

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
        """Take one micro-batch; parameters and errors as of `GradientEngine.accumulate`.

        With the representation's Gramian, the second pass of all micro-batches waits for the final one, which brings
        the weights: texts and cached gradients of the micro-batches before it are kept until then.
        """
        try:
            with self._inner.whole_or_nothing():
                self._check(losses)
                exact = isinstance(self._inner, GradientEngine)
                report = self._inner.accumulate(
                    {name: partial(self._call, loss) for name, loss in losses.items()},
                    final=final,
                    divisor=divisor,
                    run_backward=partial(self._through_encoder, run_backward) if exact else run_backward,
                    loss_scale=loss_scale,
                    shared_graph=bool(shared_graph),  # what may be kept longer than needed is no encoder's graph
                )
        except BaseException:
            self._encodings.clear()
            raise
        if final or exact:
            self._encodings.clear()
        return report

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state beside the solver's: the tracked gradients, where the solver tracks them."""
        return self._inner.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state_dict` over the same parameters and objectives."""
        self._inner.load_state_dict(state)

    def _check(self, losses: Collection[str]) -> None:
        for name in losses:
            if name not in self.objectives:
                raise ConfigError(f"losses: no objective {name!r}{nearest(name, self.objectives)}")
        for name, on in zip(self.objectives, self.solver.active(self.objectives), strict=True):
            if on and name not in losses:
                raise ConfigError(f"losses: objective {name!r} has none")

    def _through_encoder(self, run_backward: Callable[..., None], loss: Tensor, *, retain_graph: bool) -> None:
        """Backward of one loss down to the parameters: to the embeddings first, then from them."""
        run_backward(loss, retain_graph=retain_graph)
        for encoding in self._encodings:
            gradient, encoding.leaf.grad = encoding.leaf.grad, None
            if gradient is not None:
                encoding.backward(gradient)


def _given(loss: Tensor) -> Tensor:
    return loss

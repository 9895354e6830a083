"""One step in a loop of your own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from mogrid.errors import ConfigError
from mogrid.gradients.engine import GradientEngine
from mogrid.gradients.probes import Probe, Representations
from mogrid.gradients.step import StepReport
from mogrid.solvers import Solver

__all__ = ["backward"]


def backward(
    losses: Mapping[str, Tensor] | Sequence[Tensor],
    parameters: Iterable[nn.Parameter],
    solver: Solver,
    *,
    gradient_statistics: bool = False,
    representations: Sequence[Tensor] | None = None,
    probe: Probe | None = None,
) -> StepReport:
    """Write the solver's combination of the losses' gradients into ``.grad``, in a loop of your own.

    Parameters
    ----------
    losses : mapping of name to scalar Tensor, or sequence of scalars
        They may share a graph. A sequence's objectives are called ``"0"``, ``"1"``, ...
    parameters : iterable of nn.Parameter
        What is trained; ``.grad`` is written there.
    solver : Solver
        Keep one for the whole training: many have a state.
    gradient_statistics : bool
        Take gradient norms and cosines even when the solver needs no gradients.
    representations : sequence of Tensor, optional
        Tensors that all losses are functions of, embeddings say. The Gramian is formed there (MGDA-UB,
        arXiv 1810.04650), and one backward of the weighted sum follows: the cost of fixed weights where the losses
        are cheap beside the encoder. The combined gradient is exact, the weights are those of an upper bound.
    probe : Probe, optional
        Something else to form the Gramian from; see `mogrid.gradients.probes`.

    Raises
    ------
    ConfigError
        No solver; no losses, or one that is no scalar or has no gradient (it is named); both of representations and
        probe, or a representation that is in no graph.

    Examples
    --------
    >>> import torch
    >>> from mogrid import MGDA, backward
    >>> x = torch.nn.Parameter(torch.zeros(2))
    >>> report = backward([(x - 1).square().sum(), (x + 1).square().sum()], [x], MGDA())
    >>> report.weights
    {'0': 0.5, '1': 0.5}
    """
    if not isinstance(solver, Solver):
        raise ConfigError(f"solver: expected a Solver that is kept over the training, such as MGDA(), got {solver!r}")
    named = losses if isinstance(losses, Mapping) else {str(i): loss for i, loss in enumerate(losses)}
    if representations is not None:
        if probe is not None:
            raise ConfigError("representations and probe: give one of the two")
        probe = Representations(representations)
    if not named:
        raise ConfigError("losses: got none; give one scalar for each objective")
    engine = GradientEngine(parameters, tuple(named), solver, gradient_statistics=gradient_statistics, probe=probe)
    report = engine.accumulate({name: partial(_given, loss) for name, loss in named.items()}, shared_graph=True)
    assert report is not None  # a single micro-batch is the final one
    return report


def _given(loss: Tensor) -> Tensor:
    return loss

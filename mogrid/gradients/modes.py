"""The ways to the weights, by name: what the Gramian is formed from, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import nn

from mogrid.construct import checked, construct, named
from mogrid.gradients.cached import CachedEngine
from mogrid.gradients.engine import GradientEngine
from mogrid.gradients.probes import LastLayers, Sketch, last_layers
from mogrid.solvers import Solver

__all__ = ["MODES", "Engine", "make_engine", "mode_settings"]


Engine = GradientEngine | CachedEngine
"""What a trainer steps with."""


def _exact(
    model: nn.Module, trained: list[nn.Parameter], objectives: Sequence[str], solver: Solver, **options: Any
) -> Engine:
    return GradientEngine(trained, objectives, solver, **options)


def _last_layers(
    model: nn.Module,
    trained: list[nn.Parameter],
    objectives: Sequence[str],
    solver: Solver,
    layers: int = 2,
    **options: Any,
) -> Engine:
    own = {id(p) for p in model.parameters()}
    heads = [p for p in trained if id(p) not in own]
    probe = LastLayers(trained, [*last_layers(model, layers), *heads])
    return GradientEngine(trained, objectives, solver, probe=probe, **options)


def _sketch(
    model: nn.Module,
    trained: list[nn.Parameter],
    objectives: Sequence[str],
    solver: Solver,
    size: int = 4096,
    seed: int = 0,
    **options: Any,
) -> Engine:
    return GradientEngine(trained, objectives, solver, probe=Sketch(trained, size, seed), **options)


def _representation(
    model: nn.Module, trained: list[nn.Parameter], objectives: Sequence[str], solver: Solver, **options: Any
) -> Engine:
    return CachedEngine(model, objectives, solver, parameters=trained, mini_batch_size=None, **options)


def _cached(
    model: nn.Module,
    trained: list[nn.Parameter],
    objectives: Sequence[str],
    solver: Solver,
    mini_batch_size: int = 32,
    gramian: Literal["representation", "exact"] = "representation",
    **options: Any,
) -> Engine:
    return CachedEngine(
        model, objectives, solver, parameters=trained, mini_batch_size=mini_batch_size, gramian=gramian, **options
    )


MODES: dict[str, Callable[..., Engine]] = {
    "exact": _exact,
    "last_layers": _last_layers,
    "sketch": _sketch,
    "representation": _representation,
    "cached": _cached,
}
"""Mode → what makes its engine; the keywords after the solver are the mode's settings."""


def mode_settings(gradients: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a mode's name and settings from ``"sketch"`` or ``{"mode": "sketch", "size": 1024}``.

    Raises
    ------
    ConfigError
        An unknown mode or setting (the nearest is named), or a value of the wrong type.
    """
    name, settings = named(MODES, gradients, what="gradients mode", key="mode")
    return name, checked(MODES[name], settings, label=f"gradients mode {name}", taken=4)


def make_engine(
    gradients: str | Mapping[str, Any],
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    objectives: Sequence[str],
    solver: Solver,
    *,
    gradient_statistics: bool = True,
    reduce: bool = False,
) -> Engine:
    """Return the engine of a mode.

    Parameters
    ----------
    gradients : str or mapping
        In all modes the combined gradient is exact; they differ in what the weights follow from.

        ``exact``: the Gramian of the whole gradients. K - 1 more copies of the gradient; K × P floats of traffic.

        ``last_layers`` (``layers``): the Gramian of the gradients in the last layers. Where all losses are functions of
        one forward, backwards end at those layers and one of the weighted sum follows: no copy of the gradient, nearly
        the time of fixed weights. Over separate batches: time and memory of ``exact``. Traffic: one gradient and K
        times that of those layers.

        ``sketch`` (``size``, ``seed``): the Gramian of random projections. Time and memory of ``exact``, traffic of
        one gradient and K × ``size`` floats.

        ``representation``: the Gramian of the gradients at the embeddings (MGDA-UB, arXiv 1810.04650): one backward
        of the encoder whatever K, no copy of the gradient, but the activations of all batches at once. It sees
        conflicts only between objectives that share their embeddings; between objectives with batches of their own the
        Gramian is diagonal.

        ``cached`` (``mini_batch_size``, ``gramian``): gradient caching, see `mogrid.gradients.CachedEngine`.
    model : nn.Module
        Tells which layers are the last, and is what a cache encodes with.
    parameters, objectives, solver, gradient_statistics, reduce
        See `GradientEngine`.
    """
    trained = [p for p in parameters if p.requires_grad]
    return construct(
        MODES,
        gradients,
        model,
        trained,
        objectives,
        solver,
        what="gradients mode",
        key="mode",
        gradient_statistics=gradient_statistics,
        reduce=reduce,
    )

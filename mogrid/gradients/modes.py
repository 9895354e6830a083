"""The ways to the weights, by name: what the Gramian is formed from, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from mogrid.errors import ConfigError, nearest
from mogrid.gradients.engine import GradientEngine
from mogrid.gradients.probes import LastLayers, Sketch, last_layers
from mogrid.gradients.step import StepReport
from mogrid.solvers import Solver

__all__ = ["MODES", "Engine", "make_engine", "mode_settings"]

#: Mode → its settings and their defaults.
MODES: dict[str, dict[str, Any]] = {
    "exact": {},
    "last_layers": {"layers": 2},
    "sketch": {"size": 4096, "seed": 0},
    "representation": {},
    "cached": {"mini_batch_size": 32, "gramian": "representation"},
}


class Engine(Protocol):
    """What a trainer asks of an engine; see `GradientEngine`."""

    step: int

    def accumulate(
        self,
        losses: Mapping[str, Callable[[], Tensor]],
        *,
        final: bool = True,
        divisor: float = 1.0,
        run_backward: Callable[..., None] = Tensor.backward,
        loss_scale: float = 1.0,
        shared_graph: bool | Collection[str] = False,
    ) -> StepReport | None: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


def mode_settings(gradients: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a mode's name and settings from ``"sketch"`` or ``{"mode": "sketch", "size": 1024}``.

    Raises
    ------
    ConfigError
        An unknown mode or setting (the nearest is named), or a value of the wrong type.
    """
    given = {"mode": gradients} if isinstance(gradients, str) else dict(gradients)
    name = given.pop("mode", None)
    if name not in MODES:
        raise ConfigError(f"gradients: unknown mode {name!r}{nearest(str(name), MODES)}")
    settings = dict(MODES[name])
    for key, value in given.items():
        if key not in settings:
            raise ConfigError(f"gradients: mode {name!r} has no setting {key!r}{nearest(key, settings)}")
        if type(value) is not type(settings[key]):
            raise ConfigError(f"gradients: {key} of mode {name!r} must be like {settings[key]!r}, got {value!r}")
        settings[key] = value
    return name, settings


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
    parameters, objectives, solver, gradient_statistics, reduce
        See `GradientEngine`.
    """
    name, settings = mode_settings(gradients)
    trained = [p for p in parameters if p.requires_grad]
    if name in ("cached", "representation"):
        from mogrid.gradients.cached import CachedEngine

        return CachedEngine(
            model,
            objectives,
            solver,
            parameters=trained,
            mini_batch_size=settings.get("mini_batch_size"),
            gramian=settings.get("gramian", "representation"),
            gradient_statistics=gradient_statistics,
            reduce=reduce,
        )
    probe: LastLayers | Sketch | None = None
    if name == "last_layers":
        own = {id(p) for p in model.parameters()}
        heads = [p for p in trained if id(p) not in own]
        probe = LastLayers(trained, [*last_layers(model, settings["layers"]), *heads])
    elif name == "sketch":
        probe = Sketch(trained, settings["size"], settings["seed"])
    return GradientEngine(
        trained, objectives, solver, gradient_statistics=gradient_statistics, reduce=reduce, probe=probe
    )

"""Per-objective gradients: collect them, reduce them over processes, form their Gramian, write the combination.

This is the only place that knows about gradient accumulation, loss scaling and process groups. A solver sees the
(K,) losses and the (K, K) Gramian G = J Jᵀ; the model sees ``.grad``.
"""

from mogrid.gradients.cached import CachedEngine
from mogrid.gradients.encoding import Encoding
from mogrid.gradients.engine import GradientEngine
from mogrid.gradients.loop import backward
from mogrid.gradients.modes import MODES, Engine, make_engine, mode_settings
from mogrid.gradients.probes import LastLayers, Sketch, last_layers
from mogrid.gradients.products import gramian
from mogrid.gradients.step import StepReport

__all__ = [
    "MODES",
    "CachedEngine",
    "Encoding",
    "Engine",
    "GradientEngine",
    "LastLayers",
    "Sketch",
    "StepReport",
    "backward",
    "gramian",
    "last_layers",
    "make_engine",
    "mode_settings",
]

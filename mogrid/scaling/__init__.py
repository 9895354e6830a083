"""Laws of runs from scratch, until the figures read `mogrid.frontier`."""

from mogrid.scaling.laws import Laws, fit_laws
from mogrid.scaling.runs import ScalingRuns

__all__ = ["Laws", "ScalingRuns", "fit_laws"]

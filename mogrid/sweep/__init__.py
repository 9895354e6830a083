"""Many recipes: a grid over a recipe's fields, its cells, and what drains them."""

from mogrid.sweep.grid import Sweep, SweepSettings, read_sweep
from mogrid.sweep.run import run_sweep

__all__ = ["Sweep", "SweepSettings", "read_sweep", "run_sweep"]

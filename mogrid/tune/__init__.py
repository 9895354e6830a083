"""A budget spent from pilots to verdict: a sweep that chooses its own next cells."""

from mogrid.tune.run import tune
from mogrid.tune.stages import Budget

__all__ = ["Budget", "tune"]

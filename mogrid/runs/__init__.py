"""Finished runs: what one was made with, what came out, and the store that keeps them."""

from mogrid.runs.apart import told_apart
from mogrid.runs.record import Kind, Result, RunRecord, seconds_of, versions
from mogrid.runs.store import RunStore, run_name

__all__ = ["Kind", "Result", "RunRecord", "RunStore", "run_name", "seconds_of", "told_apart", "versions"]

"""Finished runs: what one was made with, what came out, and the store that keeps them."""

from mogrid.runs.store import *  # noqa: F403

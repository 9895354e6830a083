"""The mix λ: how a training's effort is divided among its objectives, and in what it is spent."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from itertools import count
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError, nearest

__all__ = ["LEAST_ROWS", "Mix", "Spend", "largest_remainder", "turns"]

Spend = Literal["weights", "rows", "steps"]

LEAST_ROWS = 2
"""Of a batch, for an objective with a share: an in-batch loss of a single row has nothing to tell it from."""


class Mix:
    """Shares of objectives on the simplex, and what they are shares of.

    Parameters
    ----------
    shares : mapping of objective to float
        λ, non-negative, summing to 1. Zero leaves an objective out: it costs nothing.
    spend : {"weights", "rows", "steps"}
        "weights": every objective has a batch of full size in every step, and λ are the losses' weights. "rows": every
        step has one batch of full size, of which each objective has its share. "steps": every step is one objective's,
        with a batch of full size; over the steps, each has its share of them.
    objectives : collection of str
        Those there are: all of them must be in `shares`, and no others.

    Raises
    ------
    ConfigError
        Names do not match, a share is no number or negative, they do not sum to 1, or `spend` is none of the three.
    """

    def __init__(self, shares: Mapping[str, float], spend: Spend, objectives: Collection[str]) -> None:
        if spend not in get_args(Spend):
            raise ConfigError(f"spend: unknown {spend!r}{nearest(str(spend), get_args(Spend))}")
        if not isinstance(shares, Mapping):
            raise ConfigError(f"mix must be a dict of objective to share, got {shares!r}")
        for name, share in shares.items():
            if name not in objectives:
                raise ConfigError(f"mix: no objective {name!r}{nearest(str(name), objectives)}")
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < math.inf:
                raise ConfigError(f"mix: the share of {name!r} must be a number of at least 0, got {share!r}")
        for name in objectives:
            if name not in shares:
                raise ConfigError(f"mix: objective {name!r} has no share; 0 leaves it out")
        total = math.fsum(shares.values())
        if abs(total - 1.0) > 1e-6:
            raise ConfigError(f"mix: the shares must sum to 1, they sum to {total:g}")
        self.spend = spend
        self.shares = {name: float(shares[name]) for name in objectives if shares[name] > 0}
        self.idle = tuple(name for name in objectives if shares[name] == 0)

    def rows(self, batch_size: int) -> dict[str, int]:
        """Return how many of a batch's rows each objective has, by largest remainder.

        Raises
        ------
        ConfigError
            An objective has a share, but fewer than two rows.
        """
        rows = largest_remainder(self.shares, batch_size)
        for name, own in rows.items():
            if own < LEAST_ROWS:
                enough = next(
                    size
                    for size in count(batch_size + 1)
                    if min(largest_remainder(self.shares, size).values()) >= LEAST_ROWS
                )
                raise ConfigError(
                    f"mix: objective {name!r} gets {own} of a batch's {batch_size} rows at a share of "
                    f"{self.shares[name]:g}, and needs {LEAST_ROWS}; the smallest batch that would do is {enough}"
                )
        return rows

    def require_turns(self, seed: int, steps: int) -> None:
        """Raise `ConfigError` where an objective with a share would have none of so many steps."""
        had = set(turns(self.shares.values(), seed, max(steps, 0)).tolist())
        for k, (name, share) in enumerate(self.shares.items()):
            if steps > 0 and k not in had:
                raise ConfigError(
                    f"mix: objective {name!r} gets none of {steps} steps at a share of {share:g}; "
                    f"{math.ceil(1 / share) + len(self.shares)} would do"
                )


def largest_remainder(shares: Mapping[Any, float], total: int) -> dict[Any, int]:
    """Divide `total` things by shares that sum to 1; of equal remainders the earlier one has the thing left over."""
    wanted = {name: round(share * total, 9) for name, share in shares.items()}  # .6 · 5 is 3, not a little more
    given = {name: math.floor(value) for name, value in wanted.items()}
    by_remainder = sorted(wanted, key=lambda name: given[name] - wanted[name])
    for name in by_remainder[: total - sum(given.values())]:
        given[name] += 1
    return given


def turns(shares: Collection[float], seed: int, length: int) -> NDArray[np.int64]:
    """Return whose turn it is in each of the first `length` steps, as positions in `shares`; shape (length,).

    The j-th turn of objective k is due at (j + o_k)/λ_k, and turns are taken in the order in which they are due; the
    offsets o_k are evenly spaced in [0, 1], in a random order. After any number of steps every objective has had its
    share of them to within a few, and a longer schedule begins with the shorter one.
    """
    weights = np.asarray(tuple(shares), dtype=np.float64)
    offsets = (np.random.default_rng([seed, len(weights)]).permutation(len(weights)) + 0.5) / len(weights)
    due = [(np.arange(math.ceil(w * length) + len(weights)) + o) / w for w, o in zip(weights, offsets, strict=True)]
    owner = np.repeat(np.arange(len(weights)), [len(times) for times in due])
    order = np.argsort(np.concatenate(due), kind="stable")
    return owner[order[:length]]

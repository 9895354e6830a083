"""Whether mixing objectives pays at all: the best mix against all pairs spent on the best single one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.frontier.laws import Laws
from mogrid.frontier.options import affordable
from mogrid.frontier.rules import importance

__all__ = ["MixingPays", "mixing_pays"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MixingPays:
    """Whether the mix that is chosen beats all pairs spent on the single objective that is.

    Attributes
    ----------
    pays : bool
        Whether it gains more than the margin in at least half of the draws.
    probability : float
        Share of draws in which it does.
    gain, low, high : float
        Of the mix over the single objective, as a part of the scalar Σ p_k l_k; 90 % interval over draws.
    mix : dict by objective
        The best by the laws as fitted, or the one that was asked about.
    single : str
        The best single objective by them.
    margin : float
    somewhere : float
        Share of draws in which some mix, that draw's own best, gains more than the margin over that draw's best single
        objective: whether there is anything to look for, however little is known of where.
    """

    pays: bool
    probability: float
    gain: float
    low: float
    high: float
    mix: dict[str, float]
    single: str
    margin: float
    somewhere: float

    def __str__(self) -> str:
        shares = ", ".join(f"{name} {share:.2f}" for name, share in self.mix.items() if share > 0.005)
        return self.words(f"the best mix ({shares})")

    def words(self, mix: str) -> str:
        """Say it of a mix by a name for it."""
        at_least = {0.9: "mixing pays", 0.75: "mixing probably pays", 0.25: "whether mixing pays is open"}
        at_least |= {0.1: "mixing probably does not pay", 0.0: "mixing does not pay"}
        head = next(said for least, said in at_least.items() if self.probability >= least)
        beyond = f"{100 * self.margin:.1f} %"
        if self.mix[self.single] > 0.995:
            return (
                f"{head}: nothing is foretold to be better than {self.single} only; probability that some mix is, by "
                f"more than {beyond}: {self.somewhere:.2f}"
            )
        return (
            f"{head}: {mix} is foretold to be {100 * self.gain:.1f} % [{100 * self.low:.1f}, "
            f"{100 * self.high:.1f}] better than {self.single} only; probability of more than "
            f"{beyond}: {self.probability:.2f}; that some mix is: {self.somewhere:.2f}"
        )


def mixing_pays(
    laws: Laws,
    model: str | float,
    budget: float,
    preference: Mapping[str, float] | None = None,
    *,
    metric: str | None = None,
    margin: float = 0.005,
    mix: Mapping[str, float] | None = None,
    alone: Sequence[str] | None = None,
) -> MixingPays:
    """Return whether a mix beats the best single objective at one base model and budget, for a weighted preference.

    The mix and the single objective that the laws as fitted call best meet in every draw, whether or not runs of one
    objective were made. That every draw has a best mix of its own is no gain that could be had: nobody knows which.

    Parameters
    ----------
    laws, budget, preference, metric
        As for `plan`.
    model : str or float
        The base model.
    margin : float
        The gain, as a part of the scalar, above which mixing pays.
    mix : mapping of objective to share, optional
        That is asked about; the best by the laws as fitted when left out.
    alone : sequence of objectives, optional
        On which all pairs could be spent; every one that has been trained on when left out.

    Raises
    ------
    ConfigError
        As `plan`.
    """
    p, found = importance(laws.objectives, preference, "weighted"), affordable(laws, budget, [model])
    able = laws.objectives if alone is None else alone
    trained = np.flatnonzero(laws.runs.pairs.sum(axis=0) > 0)
    singles = np.array([k for k in trained if laws.objectives[k] in able], dtype=np.intp)
    count = len(found)
    found = found + found.of(np.zeros(len(singles), dtype=np.intp), np.eye(len(p))[singles])
    every = len(found)
    if mix is not None:
        own = np.array([[mix.get(name, 0.0) for name in laws.objectives]])
        found = found + found.of(np.zeros(1, dtype=np.intp), own)

    scalar, drawn = (losses @ p / p.sum() for losses in (found.losses(metric), found.loss_draws(metric)))
    best = int(scalar.argmin()) if mix is None else every
    single = min(range(count, every), key=lambda row: float(scalar[row]))
    gained = (drawn[:, single] - drawn[:, best]) / drawn[:, single]
    least = drawn[:, count:every].min(axis=1)
    low, high = np.quantile(gained, [0.05, 0.95])
    probability = float((gained > margin).mean())
    return MixingPays(
        pays=probability >= 0.5,
        probability=probability,
        gain=float((scalar[single] - scalar[best]) / scalar[single]),
        low=float(low),
        high=float(high),
        mix=dict(zip(laws.objectives, found.mix[best].tolist(), strict=True)),
        single=laws.objectives[singles[single - count]],
        margin=margin,
        somewhere=float(((least - drawn[:, :every].min(axis=1)) / least > margin).mean()),
    )

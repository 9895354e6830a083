"""The chooser: from pilots to the mix of the final training, and to the pilots that would still change it.

It knows numbers alone, so that it serves any trainer, and can be replayed on runs that are finished.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError, DataError
from mogrid.frontier.design import next_runs
from mogrid.frontier.laws import Laws
from mogrid.frontier.measurements import Measurements, as_losses
from mogrid.frontier.options import box, options_of
from mogrid.frontier.pays import MixingPays, mixing_pays
from mogrid.frontier.planning import decide
from mogrid.frontier.rules import importance
from mogrid.frontier.selection import fit_laws

__all__ = ["Choice", "choose_mix", "next_pilots"]

Floats = NDArray[np.float64]

_SETTLED = 5e-4
"""Expected regret, in the metric, below which no pilot is worth its FLOPs."""
_SURELY_NOT = 0.2
"""Probability that some mix pays below which there is no looking for it."""
_SURETY = 0.5
"""With which bounds are kept: a margin for the spread of few pilots would forbid all mixes.

Stopping and merging see to bounds barely met.
"""


@dataclass(frozen=True)
class Choice:
    """The mix that a final training is to have, as far as the runs can tell.

    Attributes
    ----------
    mix : dict by objective
    regret : float
        What the draws of the laws' own choices are better by, in the preference's mean of the metric; NaN without laws.
    probability : float
        Share of draws that choose about this mix; NaN without laws.
    keeps : bool
        Whether it is foretold to keep what it must.
    settled : bool
        Whether more pilots cannot be expected to change it for the better.
    pays : MixingPays or None
    laws : Laws or None
    why : str
        For people.
    """

    mix: dict[str, float]
    regret: float
    probability: float
    keeps: bool
    settled: bool
    pays: MixingPays | None
    laws: Laws | None
    why: str


def choose_mix(
    runs: Measurements,
    final: float,
    *,
    preference: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
    metric: str | None = None,
    draws: int = 200,
    rng: np.random.Generator | None = None,
) -> Choice:
    """Return the mix to spend a final training on.

    Laws of the runs foretell it, for the one base model that they start from. Too few runs for laws leave the mix of
    the best of the longest runs; where nothing keeps `at_least`, it is what comes nearest to it.

    Parameters
    ----------
    runs : Measurements
        Of one base model.
    final : float
        FLOPs of the final training.
    preference, at_least
        As for `plan`, by the method ``weighted``.
    metric : str, optional
        That the choice is made in; ``ndcg`` where there is such, else the first.
    draws : int
        Bootstrap draws of the laws, which say how sure the mix is.
    rng : Generator, optional
        Of the laws' bootstrap.

    Raises
    ------
    ConfigError
        A preference or bound that is none, or several base models.
    """
    metric = metric or ("ndcg" if "ndcg" in runs.values else next(iter(runs.values)))
    p = importance(runs.objectives, preference, "weighted")
    if len(runs.sizes) > 1:
        raise ConfigError(f"the chooser is for one base model, and the runs are of {', '.join(runs.sizes)}")
    seed = int((rng or np.random.default_rng(0)).integers(2**31))
    try:
        laws = fit_laws(runs, draws=draws, seed=seed)
    except DataError as error:
        return _best_run(runs, metric, p, at_least, str(error))
    made = decide(laws, final, preference=preference, at_least=at_least, metric=metric, surety=_SURETY, seed=seed)
    losses, drawn = made.options.losses(metric), made.options.loss_draws(metric) @ p / p.sum()
    each = np.arange(len(drawn))
    regret = float(np.clip(drawn[:, made.chosen] - drawn[each, made.picked], 0, None).mean())
    caps = {runs.objectives.index(name): _loss(value, metric) for name, value in (at_least or {}).items()}
    told = losses[made.chosen] + made.margins[made.chosen]
    keeps = all(told[k] <= cap + 1e-5 for k, cap in caps.items())
    mix = made.options.mix[made.chosen]
    near = float((np.abs(made.options.mix[made.picked] - mix).sum(axis=1) / 2 <= 0.1).mean())
    named = dict(zip(runs.objectives, map(float, mix), strict=True))
    # Mixes are chosen within what was run: an anchor that no pilot had alone is no rival to them.
    alone = [name for name, most in zip(runs.objectives, box(runs)[1], strict=True) if most > 1 - 1e-6]
    pays = mixing_pays(
        laws, next(iter(runs.sizes)), final, preference, metric=metric, mix=named, alone=alone or runs.objectives
    )
    settled = regret < _SETTLED or (not caps and pays.somewhere < _SURELY_NOT)
    why = pays.words("this mix") if not caps else f"{near:.0%} of the laws' draws choose about this mix"
    return Choice(named, regret, near, keeps, settled, pays, laws, why)


def _loss(value: float, metric: str) -> float:
    return float(as_losses(np.array(float(value)), metric))


def _best_run(runs: Measurements, metric: str, p: Floats, at_least: Mapping[str, float] | None, why: str) -> Choice:
    longest = np.flatnonzero(runs.flops >= 0.7 * runs.flops.max())
    losses = as_losses(runs.values[metric][longest], metric)
    over = np.zeros(len(longest))
    for name, value in (at_least or {}).items():
        over = np.maximum(over, losses[:, runs.objectives.index(name)] - _loss(value, metric))
    best = int(np.lexsort((losses @ p, np.maximum(over, 0)))[0])
    mix = dict(zip(runs.objectives, map(float, runs.mix[longest[best]]), strict=True))
    said = f"the best of the longest pilots; no laws: {why}"
    return Choice(mix, float("nan"), float("nan"), bool(over[best] <= 0), True, None, None, said)


def next_pilots(
    choice: Choice,
    flops: Sequence[float],
    mixes: Floats,
    budget: float,
    final: float,
    *,
    preference: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
    metric: str | None = None,
    most: int = 2,
) -> list[tuple[dict[str, float], float]]:
    """Return the pilots, as (mix, FLOPs), that tell most for their price about which mix is the better choice.

    They lessen the variance of what the chosen mix and those that draws of the laws choose differ by: its expected
    regret; and that of what the chosen mix is to keep. Runs that could not change the choice are worth nothing. None
    where the choice is settled.

    Parameters
    ----------
    choice : Choice
        What the pilots so far have come to.
    flops : sequence of float
        That a pilot may have.
    mixes : ndarray, shape (m, K)
        That a pilot may have.
    budget : float
        FLOPs of all of them together.
    final, preference, at_least, metric
        As for `choose_mix`.
    most : int
        Pilots of one kind, as seeds.
    """
    laws = choice.laws
    able = [each for each in flops if each <= budget]
    if laws is None or choice.settled or not able:
        return []
    metric = metric or ("ndcg" if "ndcg" in laws.metrics else laws.metrics[0])
    candidates = options_of(laws, able, mixes)
    told = next_runs(
        laws, candidates, budget, final=final, preference=preference, at_least=at_least, metric=metric, most=most,
        surety=_SURETY,
    )  # fmt: skip
    return [
        (dict(zip(laws.objectives, map(float, candidates.mix[row]), strict=True)), float(candidates.flops[row]))
        for row in told.rows
    ]

"""What a budget is, and how it is divided: pilots, more pilots, the final training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapreplace

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError
from mogrid.frontier.search import lattice
from mogrid.objectives.registry import ANCHORS
from mogrid.runs import RunRecord
from mogrid.trainer.mix import LEAST_ROWS, largest_remainder
from mogrid.training.recipe import Recipe

__all__ = [
    "Budget", "Stages", "candidates", "divide", "divide_time", "importance_of", "in_turns", "learned", "pilot_mixes",
    "spendable",
]  # fmt: skip

Mix = Mapping[str, float]

PILOTS, _FIRST = 0.3, 0.2
"""Parts of the budget that pilots may have, and that those have which are planned beforehand."""
LEAST = 12
"""Optimiser steps of a pilot, at least."""
_LEVELS = (1.0, 4.0)
_RATES, _RATE_LEVEL = (1 / 3, 1.0, 3.0), 2.0
_FEWEST = 3


@dataclass(frozen=True)
class Budget:
    """What may be spent in all.

    Attributes
    ----------
    flops : float or None
        Of trainings.
    hours : float or None
        Of this machine by the clock, judging included, however many runs it does at the same time.
    workers : int
        Runs at the same time.
    price : float, optional
        Of an hour, where the hours were bought with money.

    Raises
    ------
    ConfigError
        Neither or both are given, or not a positive number.
    """

    flops: float | None = None
    hours: float | None = None
    workers: int = 1
    price: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.flops, self.hours) if value is not None]
        if len(given) != 1 or not (np.isfinite(given[0]) and given[0] > 0):
            raise ConfigError("a budget is a positive number of FLOPs or of hours")

    def left(self, records: Sequence[RunRecord], judgings: int, seconds: float = 0.0) -> float:
        """Return the FLOPs that are left for one training after another, when so many judgings are still to come.

        Of hours it is what one run buys in the time that is left, at the speed that the longest of the runs had: a
        training is one process, whatever else the machine could do beside it.

        Parameters
        ----------
        records : sequence of RunRecord
            What is spent.
        judgings : int
            To come, one after another, as long as those of the runs were.
        seconds : float
            Time that is over, by the clock.
        """
        if self.flops is not None:
            return self.flops - sum(record.total_flops for record in records if record.kind == "trained")
        assert self.hours is not None
        timed = [record for record in records if record.kind == "trained"]
        longest = max(timed, key=lambda record: record.total_flops)
        judging = float(np.median([record.seconds["judging"] for record in timed]))
        left = self.hours * 3600 - seconds - judgings * judging
        return left * longest.total_flops / longest.seconds["training"]

    def __str__(self) -> str:
        if self.flops is not None:
            return f"{self.flops:.3g} FLOPs"
        bought = f", {self.hours * self.price:.4g} in money" if self.hours and self.price else ""
        return f"{self.hours:.3g} hours{bought}"


@dataclass(frozen=True)
class Stages:
    """How a budget is divided.

    Attributes
    ----------
    total, unit, explore : float
        FLOPs of all, of the shortest pilot, and of the pilots that the first ones ask for.
    rates : tuple of float
        Learning rates that are tried with the equal mix.
    rate_flops : float
        Of each of these.
    mixes : tuple of mix
        Of the first pilots.
    levels : tuple of float
        Their FLOPs.
    """

    total: float
    unit: float
    explore: float
    rates: tuple[float, ...]
    rate_flops: float
    mixes: tuple[Mix, ...]
    levels: tuple[float, ...]

    @property
    def final(self) -> float:
        """FLOPs of the final training, at least."""
        return self.total - self.explore - sum(flops * count for _, count, flops in self.rows()[:2])

    def rows(self) -> list[tuple[str, int, float]]:
        """Return name, number of trainings and FLOPs of each, by stage of pilots."""
        mean = sum(self.levels) / len(self.levels) if self.levels else 0.0
        return [
            ("learning rates", len(self.rates), self.rate_flops),
            ("mixes", len(self.mixes) * len(self.levels), mean),
        ]

    def in_turns(self, workers: int) -> dict[str, float]:
        """Return by stage the FLOPs that one run after another does while the stage has so many at the same time."""
        # Which pilots the first ones ask for is not known: no order of them takes longer than this.
        longest = min(_LEVELS[-1] * self.unit, self.explore)
        return {
            "learning rates": in_turns([self.rate_flops] * len(self.rates), workers),
            "mixes": in_turns([flops for flops in self.levels for _ in self.mixes], workers),
            "more pilots": self.explore / workers + longest * (1 - 1 / workers),
            "final training": self.final,
        }


def in_turns(lengths: Iterable[float], workers: int) -> float:
    """Return when the last of some runs ends, so many at a time, each begun in turn when another ends."""
    free = [0.0] * workers
    for length in lengths:
        heapreplace(free, free[0] + length)
    return max(free)


def divide(total: float, least: float, mixes: Sequence[Mix], rate: float) -> Stages:
    """Divide a budget; one that is too small for all pilots has fewer lengths of them, and one learning rate.

    Parameters
    ----------
    total, least : float
        FLOPs in all, and of the shortest training that is one.
    mixes : sequence of mix
        That pilots should have; of one, learning rates alone are tried.
    rate : float
        The recipe's learning rate.

    Raises
    ------
    ConfigError
        The budget is below the price of three pilots.
    """
    rates = tuple(float(f"{rate * times:.3g}") for times in _RATES)
    several = len(mixes) > 1
    first = _FIRST if several else PILOTS
    for tried, levels in ((rates, _LEVELS), ((), _LEVELS), ((), (1.0,))) if several else ((rates, ()),):
        units = len(tried) * _RATE_LEVEL + len(mixes) * sum(levels)
        share = first if sum(levels) > 1 or not several else PILOTS
        unit = share * total / units
        # Two mixes alone would be two pilots: they have the price of three.
        shortest = share * total / max(units, _FEWEST) if levels else _RATE_LEVEL * unit
        if shortest >= least * (1 - 1e-9):
            chosen = tuple(mixes) if levels else ()
            explore = (PILOTS - share) * total
            return Stages(
                total, unit, explore, tried, _RATE_LEVEL * unit, chosen, tuple(level * unit for level in levels)
            )
    count = max(len(mixes), _FEWEST)
    raise ConfigError(
        f"a budget of {total:.6g} FLOPs is too small: {count} pilots of {LEAST} steps may be {PILOTS:.0%} of it, "
        f"which takes {_rounded_up(least * count / PILOTS):.3g}"
    )


def divide_time(alone: float, least: float, mixes: Sequence[Mix], rate: float, workers: int) -> Stages:
    """Divide a time, given as the FLOPs that one run after another does in it; pilots are several at a time.

    Parameters
    ----------
    alone : float
        FLOPs of one process in the whole time.
    least, mixes, rate
        As for `divide`.
    workers : int
        Pilots at the same time. The final training is one process.

    Raises
    ------
    ConfigError
        The time is below three pilots.
    """
    total = alone / (1 - PILOTS + PILOTS / workers)
    while True:
        stages = divide(total, least, mixes, rate)
        taken = sum(stages.in_turns(workers).values())
        if taken <= alone * (1 + 1e-9):
            return stages
        total *= alone / taken  # pilots do not fill all workers all the time


def _rounded_up(value: float) -> float:
    """Return a number of three digits that is not below a value, of which a message would else say too little."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.ceil(value / unit - 1e-9) * unit


def importance_of(recipe: Recipe) -> dict[str, float]:
    """Return the recipe's preference; without one, what is learned counts alike, and what holds to the base not."""
    return dict(recipe.preference) if recipe.preference is not None else dict.fromkeys(learned(recipe), 1.0)


def learned(recipe: Recipe) -> list[str]:
    """Return the objectives that teach something: those that are no anchors."""
    found = [name for name, one in recipe.objectives.items() if one.loss_name not in ANCHORS]
    if not found:
        raise ConfigError("objectives: all of them hold to the base model; name one that is to be learned")
    return found


def spendable(mix: Mix, recipe: Recipe) -> dict[str, float]:
    """Return a mix that is near, of whole rows of a batch: at least two of each objective, or none."""
    size = recipe.training.batch_size
    wanted = {name: round(share * size, 9) for name, share in mix.items()}
    active = sorted((name for name in mix if wanted[name] >= LEAST_ROWS / 2), key=lambda name: -wanted[name])
    active = active[: size // LEAST_ROWS]
    total = sum(wanted[name] for name in active)
    rows = largest_remainder({name: wanted[name] / total for name in active}, size)
    for name in reversed(active):
        while rows[name] < LEAST_ROWS:
            rows[name] += 1
            rows[max(rows, key=lambda other: rows[other])] -= 1
    return {name: round(rows.get(name, 0) / size, 9) for name in mix}


def pilot_mixes(recipe: Recipe) -> list[dict[str, float]]:
    """Return the equal mix, every objective alone, and each anchor as half of an otherwise equal mix.

    With these the shares vary independently: what a pair of each objective is worth can be told.
    """
    names, own = tuple(recipe.objectives), learned(recipe)
    mixes: list[dict[str, float]] = [dict.fromkeys(names, 1 / len(names))]
    mixes += [{**dict.fromkeys(names, 0.0), name: 1.0} for name in own]
    for anchor in (name for name in names if name not in own):
        mixes.append({**dict.fromkeys(names, 0.0), **dict.fromkeys(own, 0.5 / len(own)), anchor: 0.5})
    return _distinct(spendable(mix, recipe) for mix in mixes)


def candidates(recipe: Recipe, chosen: Mix) -> NDArray[np.float64]:
    """Return the mixes (m, K) of pilots that may come next: a lattice, and the chosen one."""
    names = tuple(recipe.objectives)
    rows = [dict(zip(names, map(float, row), strict=True)) for row in lattice(len(names), 60)]
    mixes = _distinct(spendable(mix, recipe) for mix in (chosen, *rows))
    alone = {name for name in names if name not in learned(recipe)}
    return np.array([[mix[n] for n in names] for mix in mixes if sum(mix[n] for n in alone) <= 0.5 + 1e-9])


def _distinct(mixes: Iterable[dict[str, float]]) -> list[dict[str, float]]:
    return list({tuple(mix.values()): mix for mix in mixes}.values())

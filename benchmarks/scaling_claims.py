"""What `benchmarks.scaling` holds against its runs: one function a claim, each a list of findings with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import DataError
from mogrid.experiment.plan import EQUAL
from mogrid.experiment.settings import OBJECTIVES
from mogrid.experiment.summary import front_of, select_ranking, select_values, summarise
from mogrid.frontier import Choice, Front, choose, fit_surrogate, hypervolume_interval, pick, search_front
from mogrid.runs import RunRecord, RunStore
from mogrid.scaling import Laws, ScalingRuns, fit_laws, read_runs

__all__ = [
    "PREFERENCE",
    "Finding",
    "Scale",
    "Sweep",
    "chosen_weights",
    "claims",
    "efficient",
    "read_sweep",
    "scale_values",
]

Floats = NDArray[np.float64]

PREFERENCE = {"effectiveness": 2.0, "ood": 1.0, "adversarial": 1.0}
"""Of everything that is chosen here: stated before the first run."""
_LOPSIDED = ("effectiveness only", "0.8/0.1/0.1", "0.1/0.8/0.1", "0.1/0.1/0.8")
_REACH = 10.0
_UNKNOWN = "not identified"


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes
    ----------
    claim : int
        0 for what no claim of the paper asks.
    value, low, high : float
        NaN where there is none.
    """

    claim: int
    what: str
    value: float
    low: float = float("nan")
    high: float = float("nan")
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Scale:
    """The runs of one model size and one budget."""

    size: str
    pairs: int
    records: tuple[RunRecord, ...]

    @property
    def name(self) -> str:
        return f"{self.size}, D = {self.pairs:,}"

    @property
    def flops(self) -> float:
        return float(np.median([r.flops["total"] for r in self.sweep]))

    @property
    def sweep(self) -> tuple[RunRecord, ...]:
        """Runs of fixed weights."""
        return tuple(r for r in self.records if r.kind == "sweep")


@dataclass(frozen=True)
class Sweep:
    """Everything in a store, with its laws."""

    source: str
    scales: tuple[Scale, ...]
    entropy: Laws
    ranking: Laws
    untrained: tuple[RunRecord, ...] = field(default=())

    @property
    def largest(self) -> dict[str, Scale]:
        """The scale with most data of every size."""
        return {scale.size: scale for scale in sorted(self.scales, key=lambda s: s.pairs)}


def read_sweep(store: RunStore, *, draws: int = 1000) -> Sweep:
    """Read a store and fit the laws of contrastive entropy and of 1 − nDCG@10, on select-role data."""
    entropy = read_runs(store)
    ranking = read_runs(store, select_ranking)
    groups: dict[tuple[str, float], list[RunRecord]] = {}
    others = []
    source = ""
    for record in store.records(queries=False):
        settings = record.config["settings"]
        if record.kind == "untrained":
            others.append(record)
        if record.kind == "sweep":
            source = record.results[0]["domain"]
        groups.setdefault((settings["encoder"]["size"], float(f"{settings['training']['budget']:.6g}")), []).append(
            record
        )
    scales = []
    for (size, _), records in groups.items():
        inside = [r for r in records if r.kind == "sweep" and min(_weights(r)) > 0]
        if inside:
            pairs = inside[0].steps * inside[0].config["settings"]["training"]["batch_size"]
            if any(r.kind == "solver" for r in records):  # strategies are tested query by query
                records = [store.read(r.name) for r in records]
            scales.append(Scale(size, pairs, tuple(records)))
    scales.sort(key=lambda s: (s.records[0].parameters, s.pairs))
    return Sweep(source, tuple(scales), fit_laws(entropy, draws=draws), fit_laws(ranking, draws=draws), tuple(others))


def _weights(record: RunRecord) -> list[float]:
    given = record.config["solver"]["weights"]
    return [given.get(name, 0.0) for name in OBJECTIVES]


def claims(sweep: Sweep) -> list[Finding]:
    """Return all findings, in the order of the claims."""
    found: list[Finding] = []
    for part in (_laws, _exponents, _fronts, _slopes, _equivalence, _moving, _strategies):
        found += part(sweep)
    return found


# -- 1 and 2: laws ---------------------------------------------------------------------------------------------------


def _laws(sweep: Sweep) -> list[Finding]:
    found = []
    for measure, laws in (("CE", sweep.entropy), ("1 − nDCG@10", sweep.ranking)):
        for name, fit in zip(laws.objectives, laws.fits, strict=True):
            form = fit.fitted.form.name
            found.append(Finding(1, f"{name}: R² of {measure}, in sample", fit.fitted.r2, note=f"{form}; mixes"))
            found += [
                Finding(1, f"{name}: median error of {measure}, largest {axis} held out", 100 * error, unit="%")
                for axis, error in fit.held_out[form].items()
            ]
        for active, alone in laws.apart.items():
            only = " and ".join(name for name, on in zip(laws.objectives, active, strict=True) if on)
            r2 = [fit.fitted.r2 for fit in alone.fits]
            forms = ", ".join(fit.fitted.form.name for fit in alone.fits)
            what = f"trained for {only} alone: R² of {measure}, in sample, median of objectives"
            found.append(Finding(1, what, float(np.median(r2)), min(r2), max(r2), note=forms))
    return found + _laws_by_weighting(sweep.entropy.runs)


def _laws_by_weighting(runs: ScalingRuns) -> list[Finding]:
    """Laws over N and D of every weighting by itself, as the paper has them: medians over weightings, and ranges."""
    _, group = np.unique(runs.weights.round(6), axis=0, return_inverse=True)
    r2: dict[str, list[float]] = {}
    errors: dict[tuple[str, str], list[float]] = {}
    for member in (group.ravel() == g for g in range(int(group.max()) + 1)):
        try:
            laws = fit_laws(runs.only(np.asarray(member)), draws=2)
        except DataError:
            continue  # not enough of its cells are there yet
        for name, fit in zip(laws.objectives, laws.fits, strict=True):
            r2.setdefault(name, []).append(fit.fitted.r2)
            for axis, held in fit.foretold.items():
                errors.setdefault((name, axis), []).append(100 * held.error)
    note = f"median and range over {len(next(iter(r2.values()), []))} weightings"
    found = [
        Finding(1, f"{name}: R² of CE, a law in N and D a weighting", float(np.median(v)), min(v), max(v), "", note)
        for name, v in r2.items()
    ]
    return found + [
        Finding(
            1, f"{name}: error of CE, largest {axis} held out, likewise", float(np.median(v)), min(v), max(v), "%", note
        )
        for (name, axis), v in errors.items()
    ]


def _exponents(sweep: Sweep) -> list[Finding]:
    laws = sweep.entropy
    found = [
        Finding(2, f"{e.objective}: exponent {e.name}", e.value, e.low, e.high, "", "" if e.identified else _UNKNOWN)
        for e in laws.exponents()
    ]
    slopes = _elasticities(laws)
    for axis, (value, draws) in slopes.items():
        for k, name in enumerate(laws.objectives):
            low, high = np.quantile(draws[:, k], [0.05, 0.95])
            found.append(Finding(2, f"{name}: % of CE lost per % of {axis}, centre", value[k], low, high))
        for k in (1, 2):
            low, high = np.quantile(draws[:, k] - draws[:, 0], [0.05, 0.95])
            what = f"{laws.objectives[k]} less effectiveness: the same for {axis}"
            found.append(Finding(2, what, value[k] - value[0], low, high))
    return found


def _elasticities(laws: Laws) -> dict[str, tuple[Floats, Floats]]:
    """Return −∂log L/∂log N and −∂log L/∂log D with equal weights at the sweep's centre: value (K,), draws (B, K)."""
    runs = laws.runs
    n, d = float(np.exp(np.log(runs.sizes).mean())), float(np.exp(np.log(runs.pairs).mean()))
    equal = np.full(3, 1 / 3)
    step, found = 1.1, {}
    for axis, up, down in (
        ("N", (n * step, d), (n / step, d)),
        ("D", (n, d * step), (n, d / step)),
    ):
        width = -2 * np.log(step)
        value = np.log(laws.predict(*up, equal) / laws.predict(*down, equal))[0] / width
        draws = np.log(laws.predict_draws(*up, equal) / laws.predict_draws(*down, equal))[:, 0] / width
        found[axis] = np.asarray(value), np.asarray(draws)
    return found


# -- 3: fronts -------------------------------------------------------------------------------------------------------


def scale_values(scale: Scale, source: str) -> Front:
    """Return the fixed-weight runs of a scale as points."""
    return front_of(scale.sweep, source)


def _fronts(sweep: Sweep) -> list[Finding]:
    found = []
    for scale in sweep.largest.values():
        front = scale_values(scale, sweep.source)
        names, means, _ = front.means()
        ideal, nadir = means.min(axis=0), means.max(axis=0)
        if len(names) < 3 or not (ideal < nadir).all():
            continue
        draws = front.bootstrap(1000)
        every = hypervolume_interval(means, draws, ideal, nadir)
        alone = [hypervolume_interval(means[[i]], draws[:, [i]], ideal, nadir) for i in range(len(names))]
        best = int(np.argmax([one.value for one in alone]))
        note = f"best single: {names[best]}; {_seeds(scale)}"
        ratio = every.value / alone[best].value
        found.append(
            Finding(3, f"{scale.name}: HV of all weights over the best single strategy", ratio,
                    every.low / alone[best].value, every.high / alone[best].value, "×", note)
        )  # fmt: skip
        single = Front(front.objectives, means, names, (0,) * len(names))
        keep = single.non_dominated()
        note = ", ".join(name for name, on in zip(names, keep, strict=True) if on)
        found.append(
            Finding(3, f"{scale.name}: non-dominated weightings of {len(names)}", float(keep.sum()), note=note)
        )
    return found


def _seeds(scale: Scale) -> str:
    counts = {len([r for r in scale.sweep if r.strategy == name]) for name in {r.strategy for r in scale.sweep}}
    low, high = min(counts), max(counts)
    return f"{low} seed{'s' * (low > 1)}" if low == high else f"{low} to {high} seeds"


# -- 4: directions ---------------------------------------------------------------------------------------------------


def _slopes(sweep: Sweep) -> list[Finding]:
    """Decline of effectiveness' and robustness' CE per decade of FLOPs, of efficient strategies and of the others."""
    good = efficient(sweep)
    table = _by_strategy(sweep)
    slopes = {name: _decline(rows) for name, rows in table.items() if len(rows) >= 3}
    groups = {
        "efficient": [slopes[name] for name in slopes if name in good],
        "other": [slopes[name] for name in slopes if name not in good],
    }
    if not all(groups.values()):
        return []
    found = []
    rng = np.random.default_rng(0)
    for column, what in enumerate(("effectiveness", "robustness (mean of OOD and adversarial)")):
        means, drawn = {}, {}
        for name, rows in groups.items():
            values = np.array(rows)[:, column]
            means[name] = values.mean()
            drawn[name] = values[rng.integers(len(values), size=(2000, len(values)))].mean(axis=1)
            low, high = np.quantile(drawn[name], [0.05, 0.95])
            note = f"{len(values)} weightings"
            found.append(
                Finding(
                    4, f"{name} strategies: fall of {what} CE per decade of FLOPs", means[name], low, high, "nats", note
                )
            )
        low, high = np.quantile(drawn["efficient"] - drawn["other"], [0.05, 0.95])
        found.append(Finding(4, f"difference, {what}", means["efficient"] - means["other"], low, high, "nats"))
    return found


def efficient(sweep: Sweep) -> set[str]:
    """Weightings that are non-dominated at most scales."""
    wins: dict[str, list[bool]] = {}
    for scale in sweep.scales:
        front = scale_values(scale, sweep.source)
        names, means, _ = front.means()
        keep = Front(front.objectives, means, names, (0,) * len(names)).non_dominated()
        for name, on in zip(names, keep, strict=True):
            wins.setdefault(name, []).append(bool(on))
    return {name for name, on in wins.items() if np.mean(on) > 0.5}


def _by_strategy(sweep: Sweep) -> dict[str, list[tuple[float, float, float]]]:
    """Return (log10 FLOPs, effectiveness CE, robustness CE) of every scale, by strategy; means over seeds."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for scale in sweep.scales:
        names, means, _ = scale_values(scale, sweep.source).means()
        for name, values in zip(names, means, strict=True):
            found.setdefault(name, []).append(
                (float(np.log10(scale.flops)), float(values[0]), float(values[1:].mean()))
            )
    return found


def _decline(rows: Sequence[tuple[float, float, float]]) -> Floats:
    table = np.array(rows)
    return -np.polyfit(table[:, 0], table[:, 1:], 1)[0]


# -- 5: what Pareto training is worth --------------------------------------------------------------------------------


def _equivalence(sweep: Sweep) -> list[Finding]:
    """How many times N or D a lopsided strategy needs for what the chosen weights reach at N and D."""
    laws = sweep.entropy
    runs = laws.runs
    n, d = float(np.exp(np.log(runs.sizes).mean())), float(np.exp(np.log(runs.pairs).mean()))
    candidates = np.unique(runs.weights[(runs.weights > 0).all(axis=1)].round(6), axis=0)
    candidates = np.vstack([candidates, _simplex_grid(0.1)])
    candidates /= candidates.sum(axis=1, keepdims=True)
    preference = np.array([PREFERENCE[name] for name in laws.objectives])
    values = laws.predict(n, d, candidates)
    chosen = candidates[pick(values, "preference", preference)]
    score = preference / preference.sum()
    target = np.log(laws.predict_draws(n, d, chosen)[:, 0]) @ score
    ratios = np.geomspace(1, _REACH, 61)
    found = [
        Finding(5, "chosen weights at the centre of the sweep", float("nan"), note="/".join(f"{w:.2f}" for w in chosen))
    ]
    lopsided = {r.strategy: np.array(_weights(r)) for s in sweep.scales for r in s.sweep if r.strategy in _LOPSIDED}
    for name, weights in lopsided.items():
        for axis in ("N", "D"):
            sizes, pairs = (n * ratios, np.full(61, d)) if axis == "N" else (np.full(61, n), d * ratios)
            reached = np.log(laws.predict_draws(sizes, pairs, weights)) @ score  # (B, 61)
            drawn = np.array([_crossing(ratios, row, aim) for row, aim in zip(reached, target, strict=True)])
            low, middle, high = np.quantile(drawn, [0.05, 0.5, 0.95], method="nearest")
            note = f"{(drawn >= _REACH).mean():.0%} of draws: not within {_REACH:g}×" if (drawn >= _REACH).any() else ""
            found.append(Finding(5, f"{name} needs r·{axis}, r =", middle, low, high, "×", note))
    return found


def _simplex_grid(step: float) -> Floats:
    ticks = np.arange(step, 1, step)
    return np.array([(a, b, 1 - a - b) for a in ticks for b in ticks if 1 - a - b > step / 2])


def _crossing(ratios: Floats, reached: Floats, aim: float) -> float:
    """Return the first ratio at which a falling score meets the aim; the largest asked for where it does not."""
    below = np.flatnonzero(reached <= aim)
    return float(ratios[below[0]]) if len(below) else float(ratios[-1])


# -- 6: do the best weights move with scale? -------------------------------------------------------------------------


def _moving(sweep: Sweep) -> list[Finding]:
    note = "effects of the weights alone, against those with interactions"
    found = [
        Finding(6, f"{name}: F-test that effects of the weights depend on N and D, p", p, note=note)
        for name, p in _interaction_tests(sweep.entropy.runs).items()
    ]
    ends = list(sweep.largest.values())
    for scale in (ends[0], ends[-1]) if len(ends) > 1 else ends:
        choice = chosen_weights(scale, sweep.source)
        if choice is not None:
            found += [
                Finding(
                    6, f"{scale.name}: weight of {k}", choice.weights[k], choice.weight_low[k], choice.weight_high[k]
                )
                for k in OBJECTIVES
            ]
    return found


def chosen_weights(scale: Scale, source: str) -> Choice | None:
    """Return the weights that a surrogate of this scale alone chooses; None where it has too few runs."""
    inside = [r for r in scale.sweep if min(_weights(r)) > 0]
    weights = np.array([_weights(r) for r in inside])
    weights /= weights.sum(axis=1, keepdims=True)
    if len(np.unique(weights, axis=0)) < 7:
        return None
    surrogate = fit_surrogate(OBJECTIVES, weights, np.stack([select_values(r, source) for r in inside]), draws=200)
    return choose(surrogate, search_front(surrogate, weights), PREFERENCE)


def _interaction_tests(runs: ScalingRuns) -> dict[str, float]:
    """Nested F-tests on the log loss of interior runs: effects of the weights, then those that change with N and D."""
    from scipy.stats import f as f_distribution

    keep = np.asarray((runs.weights > 0).all(axis=1))
    inside = runs.only(keep)
    n, d = np.log(inside.sizes / inside.sizes.mean()), np.log(inside.pairs / inside.pairs.mean())
    a, b = (inside.weights[:, :2] - 1 / 3).T
    shape = np.column_stack([a, b, a * a, a * b, b * b])
    scale = np.column_stack([np.ones_like(n), n, d, n * n, n * d, d * d])
    small = np.column_stack([scale, shape])
    large = np.column_stack([small, shape[:, :2] * n[:, None], shape[:, :2] * d[:, None]])
    found = {}
    for k, name in enumerate(inside.objectives):
        y = np.log(inside.values[:, k])
        ranks, errors = [], []
        for design in (small, large):
            solution, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
            ranks.append(int(rank))
            errors.append(float(((y - design @ solution) ** 2).sum()))
        more, left = ranks[1] - ranks[0], len(y) - ranks[1]
        if more > 0 and left > 0:
            ratio = (errors[0] - errors[1]) / more / (errors[1] / left)
            found[name] = float(f_distribution.sf(ratio, more, left))
    return found


# -- 7: strategies at equal FLOPs ------------------------------------------------------------------------------------


def _strategies(sweep: Sweep) -> list[Finding]:
    found = []
    for scale in sweep.scales:
        if not any(r.kind == "solver" for r in scale.records):
            continue
        summary = summarise(scale.records, sweep.source, baseline=EQUAL, draws=500)
        groups = _groups(scale, sweep.source)
        volumes = _volumes(scale, sweep.source, groups)
        for name, volume in volumes.items():
            found.append(Finding(7, f"{scale.name}: HV of {name}", *volume, note=f"{len(groups[name])} point(s)"))
        for row in summary.rows:
            for measure in ("nDCG@10", "OOD nDCG@10", "typo nDCG@10"):
                if measure in row.values:
                    test = row.tests.get(measure)
                    note = "" if test is None else f"p = {test.p_value:.3f} against {EQUAL} (Holm)"
                    value, width = row.values[measure], row.widths[measure]
                    what = f"{scale.name}: test {measure} of {row.strategy}"
                    found.append(Finding(7, what, value, value - width, value + width, note=note))
    return found


def _groups(scale: Scale, source: str) -> dict[str, list[str]]:
    """Return the sets of strategies whose fronts are compared: every single one, and each family."""
    fixed = list(dict.fromkeys(r.strategy for r in scale.sweep))
    shares = list(dict.fromkeys(r.strategy for r in scale.records if r.strategy.startswith("shares")))
    solvers = [
        r.strategy for r in scale.records if r.kind in ("solver", "average", "pareto") and r.strategy not in shares
    ]
    tuned = _tuned(scale, source)
    groups = {"all fixed weights": fixed, "all batch shares": shares, f"tuned static ({tuned})": [tuned]}
    return {name: rows for name, rows in groups.items() if rows} | {name: [name] for name in dict.fromkeys(solvers)}


def _tuned(scale: Scale, source: str) -> str:
    """Return the fixed weights that do best by the preference on select-role data."""
    names, means, _ = scale_values(scale, source).means()
    preference = np.array([PREFERENCE[name] for name in OBJECTIVES])
    return names[pick(means, "preference", preference)]


def _volumes(scale: Scale, source: str, groups: Mapping[str, Sequence[str]]) -> dict[str, tuple[float, float, float]]:
    measured = [r for r in scale.records if r.kind in ("sweep", "solver", "average", "pareto")]
    front = front_of(measured, source)
    names, means, _ = front.means()
    ideal, nadir = means.min(axis=0), means.max(axis=0)
    draws = front.bootstrap(1000)

    def volume(rows: list[int]) -> tuple[float, float, float]:
        found = hypervolume_interval(means[rows], draws[:, rows], ideal, nadir)
        return found.value, found.low, found.high

    return {group: volume([names.index(name) for name in rows]) for group, rows in groups.items()}

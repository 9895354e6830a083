"""The verdict: the model that is handed back, beside what else there was, on test-role data, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mogrid.attacks.registry import attack_for
from mogrid.data import Role
from mogrid.errors import MogridError
from mogrid.evaluation import PairedTest, paired_runs
from mogrid.evaluation.intervals import corrected
from mogrid.report.table import Table, cell, mark
from mogrid.runs import RunRecord
from mogrid.runs.summary import domain_of, pairs_of
from mogrid.sweep.merging import Places
from mogrid.training.recipe import Recipe
from mogrid.training.run import Materials
from mogrid.tune.shares import interval, preferred, values_of

__all__ = ["Verdict", "gain_of", "gains_told", "p_told", "standing", "testing_recipe", "verdict_of"]

_ALL = "all, by the preference"


@dataclass(frozen=True)
class Verdict:
    """How the model that is handed back compares.

    Attributes
    ----------
    role : str
        Of the data: ``test``, or ``select`` where there are no others.
    systems : dict of system to (dict of objective to (value, low, high))
        nDCG@10 with 95 % intervals over queries; the first is the model.
    tests : dict of system to (dict of objective to paired test)
        Of the model against each other system; Holm-corrected over its objectives.
    goal : str
        The column that the preference asks for: of all objectives together, or the one that counts.
    untested : tuple of str
        Objectives that nothing of this role stands for.
    """

    role: str
    systems: Mapping[str, Mapping[str, tuple[float, float, float]]]
    tests: Mapping[str, Mapping[str, Mapping[str, float]]]
    goal: str
    untested: tuple[str, ...]

    def table(self) -> Table:
        """Return the one table: a row a system, marked where the model is surely better or worse."""
        rows = []
        for system, values in self.systems.items():
            marks = {name: mark(t["difference"], t["p_value"]) for name, t in self.tests.get(system, {}).items()}
            cells = [cell(v, (high - low) / 2, mark=marks.get(name, "")) for name, (v, low, high) in values.items()]
            rows.append((system, *cells))
        columns = ("", *next(iter(self.systems.values())))
        note = (
            f"nDCG@10 on {self.role}-role data ± half of a 95 % interval over queries; ▲ ▼ the model is better or "
            "worse than this, p < .05, paired, Holm over the row"
        )
        return Table("Verdict", columns, rows, note, highlight=frozenset({0}))

    def words(self, system: str) -> str:
        """Say how the model compares with one other."""
        parts = []
        for name, test in self.tests[system].items():
            how = "better" if test["difference"] > 0 else "worse"
            sign = mark(test["difference"], test["p_value"])
            gain = f"{test['difference']:+.3f}{sign} [{test['low']:+.3f}, {test['high']:+.3f}]"
            parts.append(f"{f'{how} in' if sign else 'no sure difference in'} {name} ({gain})")
        return f"against {system}: {'; '.join(parts)}"

    @property
    def pays(self) -> bool:
        """Whether the model is surely better than the base at what was asked for."""
        test = self.tests["base"].get(self.goal)
        return test is not None and test["difference"] > 0 and test["p_value"] < 0.05

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Verdict:
        """Read what `to_json` gave."""
        return Verdict(**{**value, "untested": tuple(value["untested"])})


def testing_recipe(recipe: Recipe, given: Materials) -> Recipe | None:
    """Return the recipe whose runs are judged on test-role data; None where there are none."""
    collection = given.library.collection
    if collection is None or not collection.with_role(Role.TEST):
        return None
    conditions = dict.fromkeys(c for places in given.judging.objectives.values() for _, c in places if c != "clean")
    if recipe.evaluation is not None:
        conditions |= dict.fromkeys(recipe.evaluation.perturb)
    return recipe.change({"evaluation.role": "test", "evaluation.perturb": [c for c in conditions if _tests(c)]})


def _tests(condition: str) -> bool:
    try:
        attack_for(condition, Role.TEST)
    except MogridError:
        return False
    return True


def standing(objectives: Places, record: RunRecord, role: str) -> dict[str, list[tuple[str, str]]]:
    """Return what of a role stands for each objective: the same domains, or those that are kept for this role alone.

    Others stand only for an objective that is judged on others, too: neither at home nor on what is trained on. Where
    the same ones would stand for two objectives, they stand for neither.
    """
    there = {(r.domain, r.condition): bool(r.notes.get("home")) for r in record.results if r.role == role}
    near = {r.domain for r in record.results if r.notes.get("home")} | _trained_on(record)
    found, others = {}, {}
    for name, places in objectives.items():
        conditions = {condition for _, condition in places}
        own = [place for place in places if place in there]
        if own:
            found[name] = own
        elif not near & {domain for domain, _ in places}:
            others[name] = [place for place, home in there.items() if place[1] in conditions and not home]
    alone = [own for own in others.values() if list(others.values()).count(own) == 1]
    found |= {name: own for name, own in others.items() if own and own in alone}
    return {name: found[name] for name in objectives if name in found}


def _trained_on(record: RunRecord) -> set[str]:
    """Return the names of the sets that any objective's pairs come from."""
    objectives = record.recipe.get("objectives", {}).values()
    return {Path(entry["path"]).name for objective in objectives for entry in objective["datasets"]}


def gain_of(
    first: Sequence[RunRecord],
    second: Sequence[RunRecord],
    objectives: Places,
    preference: Mapping[str, float],
    role: str,
) -> PairedTest:
    """Return how much better one system is than another by a preference, over queries and seeds of one role's data.

    Parameters
    ----------
    first, second : sequence of RunRecord
        Of one system, its seeds, with values of single queries: runs of one seed are compared with one another.
    objectives, preference, role
        As for `verdict_of`.
    """
    places = standing(objectives, first[0], role)

    def values(record: RunRecord) -> dict[str, float]:
        return preferred(values_of(record, places, role), preference)

    return _tested([(values(one), values(other)) for one, other in pairs_of(first, second)])


def gains_told(
    records: Sequence[RunRecord],
    label: str,
    baseline: str,
    objectives: Places,
    preference: Mapping[str, float],
    role: str,
) -> str:
    """Say how much better one system of some records is than another by a preference; parameters as for `gain_of`."""
    first, second = ([record for record in records if record.label == name] for name in (label, baseline))
    test = gain_of(first, second, objectives, preference, role)
    asked = " : ".join(f"{preference.get(name, 0.0):g}" for name in objectives)
    gain = f"{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}], {p_told(test.p_value)}"
    over = f"{test.seeds} seeds" if test.seeds > 1 else "over queries, one seed"
    return f"{label} against {baseline}, by the preference {asked}: {gain} ({over})"


def p_told(p_value: float) -> str:
    """Return a p-value for people: four places, and never 0."""
    return f"p = {p_value:.4f}" if p_value >= 1e-4 else "p < 0.0001"


def _tested(pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> PairedTest:
    test = paired_runs(pairs, stratum=domain_of)
    if len(pairs) > 1:
        return test
    _, low, high = interval({query: value - pairs[0][1][query] for query, value in pairs[0][0].items()})
    return replace(test, low=low, high=high)


def verdict_of(
    records: Mapping[str, RunRecord], objectives: Places, preference: Mapping[str, float], role: str
) -> Verdict:
    """Return the verdict on the first of some systems.

    Parameters
    ----------
    records : mapping of system to RunRecord
        Judged on one role's data, with values of single queries.
    objectives : mapping of objective to list of (domain, condition)
        What stands for them on select-role data.
    preference : mapping of objective to float
    role : str
    """
    model = next(iter(records))
    places = standing(objectives, records[model], role)
    values: dict[str, dict[str, Mapping[str, float]]] = {}
    for system, record in records.items():
        known = values_of(record, places, role)
        values[system] = {**known}
        if sum(preference.get(name, 0.0) > 0 for name in known) > 1:
            values[system][_ALL] = preferred(known, preference)
    systems = {system: {name: interval(own) for name, own in by.items()} for system, by in values.items()}
    tests: dict[str, dict[str, Mapping[str, float]]] = {}
    for system, by in values.items():
        if system == model:
            continue
        # Whether the model is better than the base does not hang on which rivals were trained, too.
        raw = corrected({name: _tested([(values[model][name], own)]) for name, own in by.items()})
        tests[system] = {name: asdict(test) for name, test in raw.items()}
    counted = [name for name in places if preference.get(name, 0.0) > 0]
    goal = counted[0] if len(counted) == 1 else _ALL
    return Verdict(role, systems, tests, goal, tuple(name for name in objectives if name not in places))

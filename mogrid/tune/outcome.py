"""What came of a tune: kept as ``tune.json``, told in words and tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mogrid.errors import ConfigError, DataError
from mogrid.files import write_json
from mogrid.report.table import Table
from mogrid.runs import RunRecord, versions
from mogrid.trainer.keep import bound
from mogrid.training.train import difference
from mogrid.tune.verdict import Verdict

__all__ = ["Asked", "Outcome", "check_folder", "keep_outcome", "known_outcome", "lines_of"]

_RECORD, _FORMAT = "tune.json", 2


@dataclass(frozen=True)
class Asked:
    """What a tune was asked for, and the learning rate that it found.

    Attributes
    ----------
    preference : dict of objective to float
    at_least : dict of objective to bound
        As they were given: numbers, or relative to the base.
    seed : int
    rate : float
        Learning rate of the final training.
    rates : tuple of float
        That were tried with the equal mix; none where the budget is too small for that.
    """

    preference: dict[str, float]
    at_least: dict[str, float | str]
    seed: int
    rate: float
    rates: tuple[float, ...]

    def lines(self) -> list[str]:
        """Say it in words."""
        goal = f"preference {', '.join(f'{name} {value:g}' for name, value in self.preference.items())}"
        bounds = ", ".join(_bound_of(name, given) for name, given in self.at_least.items())
        tried = ", ".join(f"{rate:g}" for rate in self.rates)
        how = f"the best of {tried}, by pilots" if self.rates else "the recipe's; no other was tried"
        asked = f"asked for: {goal}; {f'at least {bounds}; ' if bounds else ''}seed {self.seed}"
        return [asked, f"learning rate: {self.rate:g}, {how}"]


@dataclass
class Outcome:
    """What came of a budget.

    Attributes
    ----------
    stages : list of (name, runs, FLOPs, seconds)
        What each cost; the last one is what is no run, such as fitting laws.
    path : list of (after which stage, mix, words)
        Of the choice.
    share : float
        Of the tuned model in the one that is handed back; 0 hands the base back.
    lines : list of str
        The verdict in words.
    verdict : Verdict
    asked : Asked
    runs : dict of str to list of run names
        What is drawn and handed back: the ``model`` as it was judged, the ``merges`` from the base to the tuned one,
        and the ``pilots`` that laws were fitted to.
    """

    verdict: Verdict
    share: float
    lines: list[str]
    stages: list[tuple[str, int, float, float]]
    path: list[tuple[str, dict[str, float], str]]
    asked: Asked
    runs: dict[str, list[str]]

    def tables(self) -> list[Table]:
        """Return the verdict, what each stage cost, and the path of the choice."""
        total = sum(flops for name, _, flops, _ in self.stages if name != "rivals") or 1.0
        costs = [
            (name, str(runs), f"{flops:.3g}" if flops else "0",
             "not counted" if name == "rivals" else f"{flops / total:.1%}", f"{seconds:,.0f}")
            for name, runs, flops, seconds in self.stages
        ]  # fmt: skip
        path = [(after, _mix(mix), why) for after, mix, why in self.path]
        return [
            self.verdict.table(),
            Table("What each stage cost", ("stage", "runs", "training FLOPs", "of what was spent", "seconds"), costs),
            Table("The path of the choice", ("after", "mix", "why"), path, left=frozenset({0, 1, 2})),
        ]

    def chosen(self) -> str:
        """Say what was chosen, and why."""
        _, mix, why = self.path[-1]
        return f"chosen: {_mix(mix)}; {why}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "verdict": self.verdict.to_json()}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Outcome:
        """Read what `to_json` gave."""
        return Outcome(**{
            **value,
            "verdict": Verdict.from_json(value["verdict"]),
            "stages": [tuple(row) for row in value["stages"]],
            "path": [tuple(row) for row in value["path"]],
            "asked": Asked(**{**value["asked"], "rates": tuple(value["asked"]["rates"])}),
        })  # fmt: skip


def check_folder(out: Path) -> None:
    """Refuse what is no folder, and one with a model that is not a tune's: it would be replaced."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(f"{there} is a file; name a folder with --out DIR")
    found = [name for name in ("recipe.json", "run.json") if (out / name).exists()]
    found += ["model/"] if (out / "model").exists() and not (out / _RECORD).is_file() else []
    if found:
        raise ConfigError(
            f"{out} holds {' and '.join(found)}, which mogrid tune did not make; name another folder with --out DIR"
        )


def keep_outcome(out: Path, request: Mapping[str, Any], outcome: Outcome | None) -> None:
    """Write what came of a request, or, with None, that its choice is about to be looked at on test-role data."""
    told = None if outcome is None else outcome.to_json()
    write_json(out / _RECORD, {"format": _FORMAT, "request": request, "outcome": told, "versions": versions()})


def known_outcome(out: Path, request: Mapping[str, Any]) -> Outcome | None:
    """Return what is known of a finished tune; refuse to look at test-role data for another choice."""
    path = out / _RECORD
    if not path.is_file():
        return None
    try:
        there = json.loads(path.read_text("utf-8"))
        if there["format"] != _FORMAT:
            raise ValueError(f"format {there['format']!r}")
        changed = difference(there["request"], json.loads(json.dumps(request)))
        if changed is not None and changed.startswith("data "):
            raise ConfigError(f"{out} holds a tune on other data; name another folder")
        if changed is not None:
            raise ConfigError(
                f"{out} holds a tune whose choice has been looked at on test-role data, with another {changed}; name "
                "another folder"
            )
        return Outcome.from_json(there["outcome"]) if there["outcome"] is not None else None
    except ConfigError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def lines_of(outcome: Outcome, final: RunRecord, *, keeps: bool) -> list[str]:
    """Say it in words."""
    step = int(final.best["step"])
    lines = [
        *outcome.asked.lines(),
        f"trained: {_mix(final.mix)}, {final.steps:,} steps, {final.total_flops:.3g} FLOPs; the weights kept are those "
        f"of step {step:,}{': as many would have been enough' if step < final.steps else ''}",
    ]
    if not keeps:
        lines.append("no mix was foretold to keep what was asked for: that was left to stopping and merging")
    if outcome.share == 0:
        lines.append(
            "fine-tuning does not pay here: nothing that was trained is surely better than the base and keeps what was "
            "asked for, so the base model is handed back"
        )
    elif outcome.share < 1:
        lines.append(f"merged: {outcome.share:.0%} of the tuned weights, the rest the base's")
    verdict = outcome.verdict
    role = f"on {verdict.role}-role data"
    if verdict.role == "select":
        lines.append("there are no test-role data: the figures are of what the choices were made on")
    elif verdict.goal not in verdict.tests["base"]:
        lines.append(
            f"whether fine-tuning pays was not tested: nothing of role {verdict.role} stands for what was asked for"
        )
    elif outcome.share > 0 and not verdict.pays:
        lines.append(f"{role} it is not shown that fine-tuning pays: the model is not surely better than the base")
    if outcome.share > 0:
        lines += [f"{role}, {verdict.words(system)}" for system in verdict.tests]
    lines += [f"{role}, {_held(verdict, name, given)}" for name, given in outcome.asked.at_least.items()]
    lines += [f"nothing of role {verdict.role} stands for {name}" for name in verdict.untested]
    return lines


def _held(verdict: Verdict, name: str, given: float | str) -> str:
    """Say whether a bound held: of one that is relative to the base, by the paired difference to it."""
    asked = f"at least {_bound_of(name, given)}"
    if name in verdict.untested:
        return f"{asked}: nobody knows, since nothing stands for {name}"
    relative, least = bound(name, given)
    test = verdict.tests["base"][name]
    value, low, high = verdict.systems["model"][name]
    said = f"{value:.3f} [{low:.3f}, {high:.3f}]"
    if relative:
        value, low, high = test["difference"], test["low"], test["high"]
        said = f"{value:+.3f} [{low:+.3f}, {high:+.3f}] against the base"
    sure = low >= least - 1e-12 or high < least - 1e-12
    return f"{asked}: {'kept' if value >= least - 1e-12 else 'broken'}{'' if sure else ', not surely'} ({said})"


def _bound_of(name: str, given: float | str) -> str:
    return f"{name}={given if isinstance(given, str) else f'{given:g}'}"


def _mix(mix: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.2f}" for name, share in mix.items() if share)

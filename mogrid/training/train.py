"""``mogrid train``: one run into a folder of its own, whatever happens in between, with its card."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from mogrid.errors import ConfigError, DataError, MogridError
from mogrid.files import held, latest_checkpoint, naming_a_full_disk, withdrawn, write_json
from mogrid.progress import Progress, status
from mogrid.runs import Kind, RunRecord, RunStore
from mogrid.training.card import said_of_bounds, write_card
from mogrid.training.fit import Interrupted, ranks
from mogrid.training.leaks import kept_leaks
from mogrid.training.library import located
from mogrid.training.recipe import Recipe
from mogrid.training.run import TRAINED, Materials, materials, run, trained

__all__ = ["Stop", "train_from_recipe"]

_BESIDE: tuple[tuple[Kind, str], ...] = (("base", "base"), ("bm25", "BM25"))
_RECIPE, _DATA, _RUN = "recipe.json", "data.json", "run.json"
_SAMPLE = ("max_queries", "max_documents")  # of the settings of an evaluation


def train_from_recipe(recipe: Recipe, base: Path, console: Console) -> Path:
    """Train, judge and describe a model; go on where an earlier call was cut short.

    Parameters
    ----------
    recipe : Recipe
    base : Path
        The folder that the paths in the recipe are relative to.
    console : Console
        Shows how far it is.

    Returns
    -------
    Path
        The run's folder: ``model/``, which ``SentenceTransformer`` loads, with its card; ``steps.jsonl``, a line an
        optimiser step; ``run.json``, the record; and, where the recipe has an evaluation, ``runs.jsonl``, a store of
        this run, of the base model and of BM25.

    Raises
    ------
    ConfigError
        The folder holds a training with another recipe or on other data, or what another command made, or there is no
        folder named.
    Busy
        Another process is at it.
    KeyboardInterrupt
        Ctrl-C or SIGTERM, after a checkpoint.
    """
    if recipe.output is None:
        raise ConfigError("output: name the folder that the run is to be written to")
    out = located(base, recipe.output)
    first = int(os.environ.get("RANK", "0")) == 0
    with ExitStack() as stack:
        if first:
            _check_folder(out)
            stack.enter_context(withdrawn(out, "training/checkpoint-*", "model", "*/model"))
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(naming_a_full_disk(out))
            stack.enter_context(held(out / ".lock"))
            _check_recipe(out, recipe)
        with status(console, "reading the data"):
            given = materials(recipe, base)
        if first:
            _check_data(out, given.data)
        if (out / _RUN).is_file():
            console.print(f"{out}: finished already", highlight=False)
            return out
        sizes = ", ".join(f"{name} {len(rows):,} rows" for name, rows in given.datasets.items())
        console.print(f"objectives: {sizes}", highlight=False)
        idle = [key for key in ("preference", "at_least") if getattr(recipe, key)]
        if idle and recipe.training.keep == "last":
            said = "not asked while the last weights are kept; training.keep: best asks for the best ones by it"
            console.print(f"note: {' and '.join(idle)}: {said}", highlight=False)
        if not first:
            with Stop() as stop:
                trained(given, out, out, stop=stop)
            return out
        given.judging.rehearse(bm25=recipe.evaluation is not None)
        write_json(out / _DATA, {"data": given.data})
        write_json(out / _RECIPE, recipe.identity())
        if recipe.evaluation is not None and given.library.collection is not None:
            with status(console, "looking for leaks"):
                leaks = kept_leaks(given.library.collection, out)
            measured = sum(total for _, total in leaks.counts.values())
            console.print(
                f"near-duplicates of training text among what is measured: {leaks.leaks} of {measured:,} texts"
            )
        record = _run(given, out, console)
        write_json(out / _RUN, record.to_json())
    return out


def _run(given: Materials, out: Path, console: Console) -> RunRecord:
    store = RunStore(out)
    with Progress(console, "training", total=1.0) as bar, Stop() as stop:
        try:
            record = run(given, out, progress=lambda share, said: bar.update(share, said=said), stop=stop)
        except Interrupted:
            raise KeyboardInterrupt from None
    others: list[RunRecord] = []
    if given.recipe.evaluation is not None:
        with Progress(console, "judging the base model and BM25", total=float(len(_BESIDE))) as bar:
            for i, (kind, label) in enumerate(_BESIDE):

                def told(share: float, said: str, before: int = i) -> None:
                    bar.update(before + share, said=said)

                others.append(run(given, out / kind, label=label, kind=kind, progress=told))
    for made in (record, *others):
        store.add(made)
    write_card(out, given.recipe, record, others)
    for line in said_of_bounds(given.recipe, record):
        console.print(f"note: {line}", highlight=False)
    console.print(f"model: {out / 'model'} ({record.steps:,} steps, {record.total_flops:.3g} FLOPs)", highlight=False)
    return record


def _check_folder(out: Path) -> None:
    """Refuse a folder whose model, or runs, are not a training's: they would be replaced."""
    begun = (out / _RECIPE).is_file()
    found = [name for name in ("tune.json", "work/") if (out / name).exists()]
    found += [name for name in ("model/", _RUN) if not begun and (out / name).exists()]
    if found:
        raise ConfigError(
            f"{out} holds {' and '.join(found)}, which mogrid train did not make; name another folder with "
            "--set output=DIR"
        )


def _check_recipe(out: Path, recipe: Recipe) -> None:
    path = out / _RECIPE
    if not path.is_file():
        return
    try:
        there = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); remove {out} to begin anew") from error
    judged = (out / _RUN).is_file()
    changed = difference(*(_in_effect(_decided(value, judged)) for value in (there, recipe.identity())))
    if changed is not None:
        raise ConfigError(f"{out} holds a training with another {changed}; name another output, or remove the folder")


def _decided(identity: Any, judged: bool) -> Any:
    """Return what of a recipe is decided in its folder: of its evaluation, until it is judged, what `keep: best` sees.

    A perturbation that turns out to be none for the queries at hand can then be replaced without training anew.
    """
    if judged or not isinstance(identity, dict):
        return identity
    evaluation = identity.get("evaluation") or {}
    seen = _SAMPLE if identity.get("training", {}).get("keep") == "best" else ()
    return {**identity, "evaluation": {key: evaluation[key] for key in seen if key in evaluation}}


def _in_effect(identity: Any) -> Any:
    """Return a recipe's identity with the defaults that it leaves out."""
    try:
        return Recipe.model_validate(identity).model_dump(mode="json")
    except (ValidationError, MogridError):  # of another version, or no recipe at all
        return identity


def _check_data(out: Path, data: str) -> None:
    """Refuse to go on with other data; what was cut short before its first checkpoint has learned from none."""
    done = any((out / name).is_file() for name in (TRAINED, _RUN))
    begun = done or latest_checkpoint(out / "training") is not None
    path = next((path for path in (out / _DATA, out / _RUN) if path.is_file()), None)
    if path is None or not begun:
        return
    try:
        there = json.loads(path.read_text("utf-8"))["data"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); remove {out} to begin anew") from error
    if there != data:
        raise ConfigError(
            f"{out} holds a training on other data (fingerprint {there[:12]}, now {data[:12]}); name another output, "
            "or remove the folder"
        )


def difference(there: Any, given: Any, key: str = "") -> str | None:
    """Return the first key at which two recipes differ, with both values; None where they are the same."""
    if isinstance(there, dict) and isinstance(given, dict):
        for name in dict.fromkeys([*there, *given]):
            found = difference(there.get(name), given.get(name), f"{key}.{name}".lstrip("."))
            if found is not None:
                return found
        return None
    return None if there == given else f"{key} ({there!r}, now {given!r})"


class Stop:
    """Ctrl-C and SIGTERM ask for a checkpoint; a second one does not wait for it.

    Ranks of a distributed training would not stop at one step: there, signals are left as they are, and the next start
    goes on from the last checkpoint.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False
        self._before: list[Any] = []

    def __call__(self) -> bool:
        return self.asked

    def __enter__(self) -> Stop:
        if ranks() == 1:
            self._before = [signal.signal(number, self._ask) for number in self.SIGNALS]
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in zip(self.SIGNALS, self._before, strict=False):
            signal.signal(number, before)

    def _ask(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

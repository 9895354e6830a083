"""One run, from its recipe to its record: the only way a run is made, by ``mogrid train`` and by a sweep alike."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentence_transformers import SentenceTransformer

from mogrid.data import Domain
from mogrid.errors import DataError
from mogrid.files import write_json
from mogrid.flops import non_embedding_parameters
from mogrid.retrieval.freezing import freeze
from mogrid.retrieval.healing import Healing
from mogrid.retrieval.merging import fill
from mogrid.retrieval.models import fold_adapters
from mogrid.runs import Kind, RunRecord, run_name, versions
from mogrid.trainer.keep import KeepBest, best_of
from mogrid.training.costs import steps_of
from mogrid.training.datasets import objective_datasets
from mogrid.training.fit import Progress, build_base, fit
from mogrid.training.judging import Judging, judging_of, objective_values
from mogrid.training.library import Library, library_of
from mogrid.training.recipe import Recipe

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["TRAINED", "Materials", "default_label", "materials", "mix_label", "run", "trained"]

TRAINED = "trained.json"
"""In a run's folder: what its training took, once it is done."""

_FIT = 0.85  # of a run's time, the rest is judging


@dataclass(frozen=True)
class Materials:
    """What a recipe's data come to, read and checked.

    Attributes
    ----------
    recipe : Recipe
    base : Path
        The folder that the recipe's paths are relative to.
    library : Library
    datasets : dict of objective to dataset
    judging : Judging
    data : str
        Fingerprint of all text that the run is trained and judged on.
    """

    recipe: Recipe
    base: Path
    library: Library
    datasets: Mapping[str, Dataset]
    judging: Judging
    data: str

    def build(self, progress: Progress = lambda share, said: None) -> SentenceTransformer:
        """Return the base model."""
        return build_base(self.recipe, self.datasets, self.base, progress)

    def name(self, label: str, kind: Kind = "trained", parents: Mapping[str, float] | None = None) -> str:
        """Return the run's name: a function of everything that determines its numbers."""
        made_of = self.recipe if kind in ("trained", "merged") else untrained(self.recipe, kind)
        return run_name(label, made_of.seed, made_of.digest(self.data, kind, json.dumps(dict(parents or {}))))


def untrained(recipe: Recipe, kind: Kind) -> Recipe:
    """Return the recipe without what only a training depends on: equal for all runs of one base model, or for BM25."""
    plain: dict[str, Any] = {"mix": None, "spend": "weights", "solver": "fixed", "training": {"steps": 1}}
    if kind == "bm25" or recipe.model.path is not None:  # nothing is drawn
        plain["seed"] = 0
    return recipe.change(plain | {"model": {}} if kind == "bm25" else plain)


def materials(recipe: Recipe, base: Path) -> Materials:
    """Read and check what a recipe names; equal data are read once a process.

    Raises
    ------
    MogridError
        One line: what is missing or wrong, of which objective.
    """
    library = library_of(recipe, base)
    miners = [o.negatives.by for o in recipe.objectives.values() if o.negatives is not None]
    objectives = {n: o.model_dump(mode="json") for n, o in recipe.objectives.items()}
    miner = (recipe.model.path, recipe.model.max_length) if "base" in miners else ()
    key = json.dumps([objectives, miner], sort_keys=True)
    evaluation = recipe.evaluation.model_dump_json() if recipe.evaluation is not None else ""
    datasets, judging, data = _read(library, base, key, evaluation, recipe.seed, _Unhashed(recipe))
    return Materials(recipe, base, library, datasets, judging, data)


class _Unhashed:
    """Carries a recipe past a cache whose keys are what of it counts."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unhashed)


@lru_cache(maxsize=4)
def _read(
    library: Library, base: Path, objectives: str, evaluation: str, seed: int, given: _Unhashed
) -> tuple[Mapping[str, Dataset], Judging, str]:
    recipe = given.recipe
    judging = judging_of(recipe, library)
    collection = library.collection
    measured: list[Domain] = list(judging.originals)
    if collection is not None:
        measured += collection.domains
    datasets, used = objective_datasets(recipe, library, base, measured)
    return datasets, judging, library.fingerprint([*used, *measured])


def run(
    given: Materials,
    folder: Path,
    *,
    label: str | None = None,
    kind: Kind = "trained",
    parents: Mapping[str, float] | None = None,
    models: Callable[[str], Path] = Path,
    cache: Path | None = None,
    progress: Progress = lambda share, said: None,
    stop: Callable[[], bool] = lambda: False,
) -> RunRecord:
    """Make one run, going on where an earlier call was cut short; the model lies in ``folder/model`` afterwards.

    Parameters
    ----------
    given : Materials
        The recipe with its data, as `materials` reads them.
    folder : Path
        Holds checkpoints until the training is done, then ``model/`` and ``steps.jsonl``.
    label : str, optional
        What the run is called in tables; the mix or the solver by default.
    kind : str
        ``trained``; ``base`` judges the base model, ``bm25`` no model, ``merged`` the average of `parents`.
    parents : mapping of run name to share, optional
        An empty name is the base model.
    models : callable
        Gives the folder of a parent's model.
    cache : Path, optional
        A folder that keeps what can be measured once for many runs; `folder` by default.

    Raises
    ------
    Interrupted
        `stop` became true; the same call goes on from a checkpoint.
    """
    recipe = given.recipe
    label = label or default_label(recipe)
    model: SentenceTransformer | None = None
    took: dict[str, Any] = {}
    healing: Mapping[str, Any] | None = None
    if kind == "trained":
        given.judging.rehearse()
        took = trained(
            given, folder, cache or folder, progress=lambda share, said: progress(_FIT * share, said), stop=stop
        )
        healing = took.get("healing")
        model = SentenceTransformer(str(folder / "model"))  # what is judged is what was saved
        if isinstance(recipe.model.freeze, int):
            freeze(model, recipe.model.freeze)  # what lies below is known from the training
    elif kind != "bm25":
        model = given.build(progress)
        healing = _healing(model)
        if kind == "merged":
            fold_adapters(model)  # those of its parents were folded when they were saved
            _average(model, {models(name) if name else None: share for name, share in (parents or {}).items()})
            save_model(model, folder / "model")
    started = time.perf_counter()
    done = _FIT if kind == "trained" else 0.0
    results, temperature = given.judging.judge(
        model or "bm25", progress=lambda what, share: progress(done + (1 - done) * share, f"judging {what}")
    )
    best = took.get("best", {})
    seconds = {"training": round(took["seconds"] - best.get("seconds", 0.0), 3)} if took else {}
    if best:
        seconds["stopping"] = best["seconds"]
    flops = dict(took.get("flops", {}))
    if healing is not None:  # once for all runs of a base model: beside their own cost, not in it
        flops["healing"], seconds["healing"] = healing["flops"], round(healing["seconds"], 3)
    return RunRecord(
        name=given.name(label, kind, parents),
        label=label,
        kind=kind,
        seed=recipe.seed if kind in ("trained", "merged") else untrained(recipe, kind).seed,
        model=recipe.model.label if model is not None else "",
        data=given.data,
        recipe=recipe.model_dump(mode="json", exclude={"output"}, exclude_defaults=True),
        parameters=0 if model is None else took.get("parameters") or non_embedding_parameters(model),
        mix=recipe.shares if took else {},
        spend=recipe.spend if took else "",
        solver=_solver_label(recipe) if took else "",
        pairs=took.get("pairs", {}),
        steps=took.get("steps", 0),
        best={key: value for key, value in best.items() if key != "seconds"},
        flops=flops,
        seconds={**seconds, "judging": round(time.perf_counter() - started, 3)},
        objectives=objective_values(recipe, given.judging, results),
        results=tuple(results),
        temperature=temperature,
        parents=dict(parents or {}),
        versions=versions(),
    )


def trained(
    given: Materials,
    folder: Path,
    cache: Path,
    *,
    progress: Progress = lambda share, said: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train where that is not done yet; return what it took. Of several ranks, the first writes."""
    path = folder / TRAINED
    if path.is_file():
        try:
            found: dict[str, Any] = json.loads(path.read_text("utf-8"))
            return found
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}); remove {folder} to train anew") from error

    model = given.build(progress)
    steps = steps_of(given.recipe, given.build, given.datasets, cache, given.data)
    healing = _healing(model)
    took = fit(
        given.recipe, model, given.datasets, folder / "training", steps,
        keeping=_keeping(given), progress=progress, stop=stop,
    )  # fmt: skip
    if healing is not None:
        took["healing"] = healing
    if int(os.environ.get("RANK", "0")) == 0:
        keep(model, folder / "training", folder, took)
    return took


def _keeping(given: Materials) -> KeepBest | None:
    """Return what keeps the best evaluation on what stands for the objectives, where the recipe asks for it."""
    recipe, judging = given.recipe, given.judging.standing()
    if recipe.training.keep == "last":
        return None
    judging.check()

    def evaluate(model: SentenceTransformer) -> dict[str, float]:
        values = objective_values(recipe, judging, judging.judge(model)[0])
        return {name: value["ndcg"] for name, value in values.items()}

    return KeepBest(evaluate, best_of(recipe.preference, recipe.at_least, within=recipe.training.keep_within))


def _healing(model: SentenceTransformer) -> dict[str, Any] | None:
    """Return what healing a base model did and cost, where it was healed."""
    healing = getattr(model, "healing", None)
    return asdict(healing) if isinstance(healing, Healing) else None


def keep(model: SentenceTransformer, work: Path, folder: Path, took: Mapping[str, Any]) -> None:
    """Put a finished training's model, steps and account in place, each whole, and drop its checkpoints."""
    save_model(model, folder / "model")
    shutil.copyfile(work / "steps.jsonl", folder / "steps.jsonl.partial")
    (folder / "steps.jsonl.partial").replace(folder / "steps.jsonl")
    if (work / "runs").is_dir():  # what a tracker wrote
        shutil.rmtree(folder / "runs", ignore_errors=True)
        (work / "runs").replace(folder / "runs")
    write_json(folder / TRAINED, took)
    shutil.rmtree(work)


def _average(model: SentenceTransformer, parents: Mapping[Path | None, float]) -> None:
    """Replace the model's weights by Σ share · weights of the parents; None is the model as it is."""
    states = [
        model.state_dict() if folder is None else SentenceTransformer(str(folder), device="cpu").state_dict()
        for folder in parents
    ]
    fill(model, [{name: value.clone() for name, value in state.items()} for state in states], list(parents.values()))


def save_model(model: SentenceTransformer, folder: Path) -> None:
    """Save a plain model that ``SentenceTransformer(folder)`` loads, adapters folded in, whole or not at all."""
    partial = folder.with_suffix(".partial")
    for leftover in (partial, folder):
        if leftover.exists():
            shutil.rmtree(leftover)
    fold_adapters(model)
    model.save_pretrained(str(partial), create_model_card=False)
    partial.rename(folder)


def default_label(recipe: Recipe) -> str:
    """Return what a run is called by the mix or the solver it was trained with."""
    if recipe.solver_name != "fixed":
        label = _solver_label(recipe)
        return label if recipe.mix is None else f"{label}, {mix_label(recipe.shares)}"
    return mix_label(recipe.shares)


def mix_label(shares: Mapping[str, float]) -> str:
    """Return a short name of a mix: ``ood only``, ``equal mix``, or ``.6/.2/.2`` in the order of the objectives."""
    active = [name for name, share in shares.items() if share > 0]
    if len(active) == 1:
        return f"{active[0]} only"
    if max(shares.values()) - min(shares.values()) < 1e-3:
        return "equal mix"
    return "/".join("0" if share == 0 else f"{share:.3g}".removeprefix("0") for share in shares.values())


def _solver_label(recipe: Recipe) -> str:
    if isinstance(recipe.solver, str):
        return recipe.solver
    settings = [
        f"{key} {value}" for key, value in recipe.solver.items() if key != "name" and not isinstance(value, dict)
    ]
    return ", ".join([recipe.solver_name, *settings])

"""What a row of every objective costs, measured, and the optimiser steps that a recipe's length comes to."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sentence_transformers import SentenceTransformer
from torch import nn

from mogrid.errors import ConfigError
from mogrid.files import write_json
from mogrid.flops import FlopLedger, encoders
from mogrid.gradients import Engine, make_engine, mode_settings
from mogrid.retrieval.thinning import stack_of
from mogrid.solvers import FixedWeights
from mogrid.trainer import ParetoTrainer, ParetoTrainingArguments
from mogrid.training.fit import build_trainer, ranks
from mogrid.training.recipe import Recipe

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["row_costs", "steps_of"]

_PROBED = 4  # full batches, to know what a row costs; of smaller ones as many more, up to
_MOST = 24
_LARGEST = 64  # rows of a batch that is probed
_LARGEST_CACHED = 512  # the more texts a cache sorts by length, the less its mini-batches are padded
_LEAST = 10  # optimiser steps: fewer are no training


def steps_of(
    recipe: Recipe, model: Callable[[], SentenceTransformer], datasets: Mapping[str, Dataset], cache: Path, data: str
) -> int:
    """Return the optimiser steps that a recipe's length comes to.

    Parameters
    ----------
    recipe : Recipe
    model : callable
        Gives the base model, where a budget has to be measured on it.
    datasets : mapping of objective to dataset
        Batches of which are probed for what a step costs.
    cache : Path
        A folder that keeps what rows of this model and data cost.
    data : str
        Fingerprint of the data.

    Raises
    ------
    ConfigError
        A budget buys fewer than ten steps.
    """
    training, rows = recipe.training, recipe.rows()
    if training.steps is not None:
        return training.steps
    if training.epochs is not None:
        return max(1, math.ceil(training.epochs * min(len(datasets[name]) / (n * ranks()) for name, n in rows.items())))
    if training.pairs is not None:
        return max(1, round(training.pairs / (sum(rows.values()) * ranks())))
    costs = row_costs(recipe, model, datasets, cache, data)
    price = sum(costs[name] * n for name, n in rows.items()) * ranks()
    steps = round((training.budget or 0.0) / price)
    if steps < _LEAST:
        raise ConfigError(
            f"training.budget {training.budget:g} FLOPs buys {steps} steps of {price:.3g}; "
            f"{_LEAST} need {_LEAST * price:.3g}"
        )
    return steps


def row_costs(
    recipe: Recipe, model: Callable[[], SentenceTransformer], datasets: Mapping[str, Dataset], cache: Path, data: str
) -> dict[str, float]:
    """Return the training FLOPs of one row of every objective with a share: measured once, over batches of a loader.

    They are measured at the rows that the recipe's batches have of each, up to 64, since a smaller batch is padded
    less; up to 512 with a gradient cache, which reads every text twice, a mini-batch at a time. They depend on lengths
    of texts and sizes of tensors alone, so that every process and machine measures the same. Runs get equal FLOPs
    through this: one that spends nothing on a dear objective takes more steps.
    """
    model_settings = recipe.model.model_dump(mode="json")
    objectives = {n: o.model_dump(mode="json", exclude={"judged"}) for n, o in recipe.objectives.items()}
    cached = _cache_of(recipe)
    largest = _LARGEST if cached is None else _LARGEST_CACHED
    sizes = _batches(recipe, largest)
    full = min(recipe.training.batch_size, largest)
    batches = min(_PROBED * max(round(full / min(sizes.values())), 1), _MOST)
    known = [model_settings, objectives, sizes, batches, data, *([] if cached is None else [cached])]
    key = json.dumps(known, sort_keys=True)
    path = cache / f"costs-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
    with suppress(OSError, ValueError, KeyError):
        return {name: float(json.loads(path.read_text("utf-8"))[name]) for name in sizes}
    mix = {name: 1 / len(sizes) if name in sizes else 0.0 for name in recipe.objectives}
    plain = recipe.change({
        "mix": mix, "spend": "weights", "solver": "fixed", "seed": 0, "training.steps": 1,
        "training.batch_sizes": sizes, "training.accumulation": 1, "training.report_to": [],
    })  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mogrid-") as scratch:
        trainer = build_trainer(plain, model(), datasets, Path(scratch), 1)
        costs = {
            name: flops / sizes[name] for name, flops in _batch_costs(trainer, batches, cached is not None).items()
        }
    write_json(path, costs)
    return costs


def _cache_of(recipe: Recipe) -> dict[str, int] | None:
    """Return what decides the price of the recipe's gradient cache; None of the modes that read a text once."""
    mode, options = mode_settings(recipe.training.gradients)
    return {name: size for name, size in options.items() if name == "mini_batch_size"} if mode == "cached" else None


def _batches(recipe: Recipe, largest: int) -> dict[str, int]:
    """Return the rows of every objective with a share in a batch that has some of it."""
    training = recipe.training
    if recipe.spend == "steps":
        sizes = {name: training.batch_size for name, rows in recipe.rows().items() if rows}
    else:
        sizes = {name: round(rows / training.accumulation) for name, rows in recipe.rows().items() if rows}
    return {name: min(size, largest) for name, size in sizes.items()}


def _batch_costs(trainer: ParetoTrainer, batches: int, cached: bool) -> dict[str, float]:
    """Return the mean training FLOPs of a batch of every objective; nothing is trained."""
    model: Any = trainer.model
    costs: dict[str, float] = {}
    loader = trainer.joint_dataloader()  # not prepared: every process of a training sees the same batches
    given = iter(loader)
    model.train()
    for _ in range(batches):
        batch = next(given, None)
        if batch is None:
            given = iter(loader)
            batch = next(given)
        for name in batch:
            with FlopLedger(model) as ledger, _shallow(model):
                inputs: dict[str, Any] = trainer._prepare_inputs(batch)
                loss: Any = partial(trainer.compute_loss, model, inputs[name])
                if cached:
                    _engine(trainer, name).accumulate({name: loss})
                else:
                    loss().backward()
            costs[name] = costs.get(name, 0.0) + ledger.total / batches
    model.zero_grad()
    return costs


def _engine(trainer: ParetoTrainer, name: str) -> Engine:
    """Return what steps on one objective alone in the trainer's gradient mode."""
    model, arguments = cast(nn.Module, trainer.model), cast(ParetoTrainingArguments, trainer.args)
    return make_engine(arguments.gradients, model, list(model.parameters()), (name,), FixedWeights())


@contextmanager
def _shallow(model: nn.Module) -> Iterator[None]:
    """Let texts pass the last layer of every encoder alone: a ledger that is open already charges for all of them."""
    stacks: list[Any] = []
    for encoder in encoders(model):
        with suppress(ConfigError):  # no single stack: it is gone through as it is
            own: Any = encoder
            stacks.append(own.get_submodule(stack_of(own, int(getattr(own.config, "num_hidden_layers", 0)))))
    kinds = [type(layers) for layers in stacks]
    try:
        for layers in stacks:
            layers.__class__ = _Last
        yield
    finally:
        for layers, kind in zip(stacks, kinds, strict=True):
            layers.__class__ = kind


class _Last(nn.ModuleList):
    """Layers of which a forward sees the last; parameters keep their names."""

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(list(self._modules.values())[-1:])

    def __getitem__(self, index: Any) -> Any:
        return list(self)[0 if isinstance(index, int) else slice(None)]

"""What a trainer is given, checked before anything is made of it; every fault is one line that names its place."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from datasets import Dataset
from torch import nn

from mogrid.errors import ConfigError, DataError, nearest
from mogrid.trainer.mix import Mix, Spend

__all__ = ["checked_datasets", "checked_mix", "objectives_by_dataset", "require_trainable", "strata_of"]


def strata_of(loss: Any, name: str, dataset: Dataset) -> Any:
    """Return the column that a loss wants every batch balanced over, or that one inside it wants; None without one."""
    while loss is not None:
        column = getattr(loss, "balanced_over", None)
        if column is not None:
            if column not in dataset.column_names:
                raise DataError(f"objective {name!r}: {type(loss).__name__} needs a column {column!r}")
            return dataset.with_format(None)[column]
        loss = getattr(loss, "loss", None)
    return None


def objectives_by_dataset(datasets: Collection[str], terms: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    for name, keys in terms.items():
        if name not in datasets:
            raise ConfigError(f"terms: no dataset {name!r}{nearest(name, datasets)}")
        if isinstance(keys, str) or not keys or len(set(keys)) != len(keys):
            raise ConfigError(f"terms: {name!r} needs the distinct keys of its loss's dict, got {keys!r}")
    return {name: tuple(f"{name}/{key}" for key in terms[name]) if name in terms else (name,) for name in datasets}


def checked_mix(
    mix: Mapping[str, float] | None, spend: Spend | None, datasets: Collection[str], solver: object, sizes: object
) -> Mix | None:
    if mix is None:
        if spend is not None:
            raise ConfigError("spend: says how a mix is spent; there is no mix")
        if solver is None:
            raise ConfigError("solver: name one, such as 'fixed' or 'mgda', or give a mix")
        return None
    if sizes and spend != "weights":  # loss weights leave the batches alone
        raise ConfigError(
            "mix: divides the effort, so that objective_batch_sizes must not; give one of the two, or spend='weights'"
        )
    return Mix(mix, "rows" if spend is None else spend, datasets)


def checked_datasets(
    train_dataset: Mapping[str, Dataset] | None, loss: Mapping[str, Any] | None, *, takes_losses: bool
) -> dict[str, Dataset]:
    if not isinstance(train_dataset, Mapping):
        raise ConfigError("train_dataset must be a dict of objective to dataset")
    if not train_dataset:
        raise ConfigError("train_dataset names no objective")
    if takes_losses:
        if not isinstance(loss, Mapping):
            raise ConfigError("loss must be a dict of objective to loss")
        for name in train_dataset:
            if name not in loss:
                raise ConfigError(f"objective {name!r} has a dataset but no loss{nearest(name, loss)}")
        for name in loss:
            if name not in train_dataset:
                raise ConfigError(f"objective {name!r} has a loss but no dataset{nearest(name, train_dataset)}")
    elif loss is not None:
        raise ConfigError("loss: this trainer takes none; let its model or its compute_loss return them")
    for name, dataset in train_dataset.items():
        if not isinstance(dataset, Dataset):
            raise ConfigError(f"objective {name!r}: expected a datasets.Dataset, got {type(dataset).__name__}")
        if len(dataset) == 0:
            raise DataError(f"objective {name!r}: its dataset has no rows")
    return dict(train_dataset)


def require_trainable(*modules: Any) -> None:
    """Raise `ConfigError` where a training would change nothing: no parameter requires a gradient."""
    parameters = {id(p): p for module in modules if isinstance(module, nn.Module) for p in module.parameters()}
    if not any(p.requires_grad for p in parameters.values()):
        raise ConfigError(
            f"model: nothing to train: none of its {len(parameters)} parameter tensors requires a gradient; "
            "unfreeze some, or load adapters as trainable"
        )

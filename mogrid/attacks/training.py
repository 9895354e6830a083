"""Perturbed copies of training pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mogrid.attacks.base import Attack, craft
from mogrid.data.domain import Role
from mogrid.errors import ConfigError, RoleError
from mogrid.trainer.conflicts import STEERING

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["perturbed_pairs"]


def perturbed_pairs(pairs: Dataset, attack: Attack, *, seed: int, variants: int = 4) -> Dataset:
    """Return the pairs `variants` times, each time with a fresh perturbation of the query.

    Parameters
    ----------
    pairs : datasets.Dataset
        Columns ``query``, ``document``, and those that steer sampling (see `training_pairs`).
    attack : Attack
        Of queries, without a victim.
    seed : int
        Decides which variants are drawn.
    variants : int
        An epoch over the result is that many epochs over the pairs.

    Returns
    -------
    datasets.Dataset
        Columns ``query``, ``document``, ``perturbed``, and those that steer sampling: the variants of a row exclude
        each other.

    Raises
    ------
    RoleError
        The attack's role is not ``train``.
    EvaluationError
        It changes nearly no text.
    """
    if attack.role is not Role.TRAIN:
        raise RoleError(f"attack {attack.name!r} has role {attack.role} and must not be trained on")
    if variants < 1:
        raise ConfigError(f"variants must be at least 1, got {variants}")
    from datasets import Dataset, concatenate_datasets

    queries, rng = list(pairs["query"]), np.random.default_rng(seed)
    perturbed = [text for _ in range(variants) for text in craft(attack, queries, None, rng, "training pairs")[0]]
    repeated = concatenate_datasets([pairs] * variants)
    made = Dataset.from_dict({"perturbed": perturbed})
    steering = [column for column in STEERING if column in pairs.column_names]
    return concatenate_datasets([repeated, made], axis=1).select_columns(["query", "document", "perturbed", *steering])

"""The contract of every attack: text in, text out, seeded, with a role."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from mogrid.data.domain import Role
from mogrid.errors import EvaluationError

__all__ = ["NEARLY_NONE", "Attack", "changed_share", "refuse_unchanged"]

NEARLY_NONE = 0.01
"""Share of changed texts below which a perturbation says nothing of robustness."""


class Attack(ABC):
    """A perturbation of texts, always judged on the *text* it returns, never on token ids.

    Attributes
    ----------
    name : str
    role : Role
        An attack that is trained on says nothing as a test; using a test attack for training is a `RoleError`.
    white_box : bool
        Whether the attacker looks inside the victim.
    """

    name: str
    role: Role
    white_box: bool

    @abstractmethod
    def perturb(self, texts: Sequence[str], victim: Any, rng: np.random.Generator) -> list[str]:
        """Return one perturbed text for each text.

        Parameters
        ----------
        texts : sequence of str
        victim : Any
            What a white-box attack looks into; None for others.
        rng : numpy.random.Generator
            The only source of randomness.
        """


def changed_share(before: Iterable[str], after: Iterable[str]) -> float:
    """Return the share of texts that a perturbation really changed."""
    changed = [first != second for first, second in zip(before, after, strict=True)]
    return sum(changed) / len(changed) if changed else 0.0


def refuse_unchanged(attack: Attack, before: Collection[str], after: Collection[str], where: str) -> None:
    """Raise `EvaluationError` where an attack changed nearly none of the texts: no robustness shows in what is left."""
    share = changed_share(before, after)
    if share < NEARLY_NONE:
        raise EvaluationError(
            f"{where}: {attack.name!r} changes {round(share * len(before))} of {len(before)} texts, and so says "
            "nothing of robustness; it may not know their language: choose another perturbation"
        )

"""The contract of every attack: text in, text out, seeded, with a role."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from mogrid.data.domain import Role

__all__ = ["Attack"]


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

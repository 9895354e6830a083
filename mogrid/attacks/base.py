"""The contract of every attack: text in, text out, seeded, with a role."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from mogrid.data.domain import Role
from mogrid.errors import EvaluationError
from mogrid.flops import FlopLedger, crafting

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["NEARLY_NONE", "Attack", "Cost", "Target", "changed_share", "counted", "craft"]

NEARLY_NONE = 0.01
"""Share of changed texts below which a perturbation says nothing of robustness."""


@dataclass(frozen=True)
class Target:
    """The victim of a targeted attack.

    Attributes
    ----------
    model : SentenceTransformer
    texts : sequence of str
        For each text that is perturbed, the one that it is meant for: the query that a document is to rank high for,
        or the document that a query is to lose.
    """

    model: SentenceTransformer
    texts: Sequence[str]


@dataclass
class Cost:
    """What crafting took.

    Attributes
    ----------
    calls : int
        Texts that the attacked model read, each once for every time; 0 of attacks that never ask it.
    flops : float
        Its forwards and backwards. Like the calls, they are counted on transformers only.
    seconds : float
        Wall clock.
    """

    calls: int = 0
    flops: float = 0.0
    seconds: float = 0.0


class Attack(ABC):
    """A perturbation of texts, always judged on the *text* it returns, never on token ids.

    Attributes
    ----------
    name : str
    role : Role
        An attack that is trained on says nothing as a test; using a test attack for training is a `RoleError`.
    white_box : bool
        Whether the attacker looks inside the victim.
    restores : bool
        Whether texts that stay as they were are its aim, not its failure.
    drawn_as : str or None
        Name of the condition whose random stream it draws from; its own when None.
    """

    name: str
    role: Role
    white_box: bool
    restores: bool = False
    drawn_as: str | None = None

    def within(self, corpus: Mapping[str, str]) -> Attack:
        """Return the attack as it is made on the queries of a corpus (id → text); the same unless it learns from it."""
        return self

    @abstractmethod
    def perturb(self, texts: Sequence[str], victim: Any, rng: np.random.Generator) -> list[str]:
        """Return one perturbed text for each text.

        Parameters
        ----------
        texts : sequence of str
            What the attacker may rewrite; one comes back for each, in order.
        victim : Any
            What the attack is aimed at: a `Target`, for attacks on documents and white-box ones; None where nobody is.
        rng : numpy.random.Generator
            The only source of randomness.
        """


def changed_share(before: Iterable[str], after: Iterable[str]) -> float:
    """Return the share of texts that a perturbation really changed."""
    changed = [first != second for first, second in zip(before, after, strict=True)]
    return sum(changed) / len(changed) if changed else 0.0


@contextlib.contextmanager
def counted(model: Any) -> Iterator[Cost]:
    """Count what is asked of a model in this context."""
    cost, started = Cost(), time.perf_counter()
    if isinstance(model, nn.Module):
        with crafting(), FlopLedger(model) as ledger:
            yield cost
        cost.calls, cost.flops = ledger.calls, ledger.crafting
    else:
        yield cost
    cost.seconds = time.perf_counter() - started


def craft(
    attack: Attack, texts: Collection[str], victim: Any, rng: np.random.Generator, where: str
) -> tuple[list[str], Cost]:
    """Return the perturbed texts, and what they cost.

    Raises
    ------
    EvaluationError
        There are more or fewer than were given, or nearly all are as they were: no robustness shows in those. `where`
        says in which set.
    """
    with counted(victim.model if isinstance(victim, Target) else victim) as cost:
        made = attack.perturb(list(texts), victim, rng)
    if len(made) != len(texts):
        raise EvaluationError(f"{where}: attack {attack.name!r} made {len(made)} texts of {len(texts)}")
    share = changed_share(texts, made)
    if share < NEARLY_NONE and not attack.restores:
        raise EvaluationError(
            f"{where}: {attack.name!r} changes {round(share * len(made))} of {len(made)} texts, and so says nothing of "
            "robustness here: choose another one"
        )
    return made, cost

"""What the objectives over training domains share: the inner loss of each domain in a batch, and weights that last."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from mogrid.errors import ConfigError, DataError
from mogrid.gradients.features import take_rows

__all__ = ["DomainLoss", "WeightedDomainLoss", "sum_over_ranks"]


class DomainLoss(nn.Module, ABC):
    """A loss over domains. Rows carry their domain in the dataset's ``label`` column, an integer.

    The inner loss sees one domain at a time, so in-batch negatives stay within a domain, and the forwards of all
    domains together cost what one batch costs.

    Parameters
    ----------
    loss : nn.Module
        Any sentence-transformers loss on (query, document, ...) columns.

    Attributes
    ----------
    balanced_over : str
        The column whose values have equally many rows in every batch that `ParetoTrainer` draws.
    """

    balanced_over = "label"

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.model: Any = loss.model
        self.loss = loss

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None) -> Tensor:
        """Return the scalar loss of columns of B rows and their domains, shape (B,), int64.

        Raises
        ------
        DataError
            There are no labels, or one is no domain.
        """
        if labels is None:
            raise DataError(f"{type(self).__name__} needs a 'label' column that numbers each row's domain")
        features = list(sentence_features)
        present = labels.unique()
        return self._combine(features, labels, present)

    @abstractmethod
    def _combine(self, features: list[dict[str, Any]], labels: Tensor, present: Tensor) -> Tensor: ...

    def _losses(self, features: list[dict[str, Any]], labels: Tensor, present: Tensor) -> Tensor:
        """Return the inner loss of each domain present, shape (len(present),)."""
        return torch.stack([self.loss(self._rows(features, labels, domain), None) for domain in present])

    @staticmethod
    def _rows(features: list[dict[str, Any]], labels: Tensor, domain: Tensor | int) -> list[dict[str, Any]]:
        rows = (labels == domain).nonzero().flatten()
        return [take_rows(column, rows) for column in features]


class WeightedDomainLoss(DomainLoss):
    """Σ_d w_d L_d / Σ_d w_d over the domains in the batch, with weights w on the simplex that training moves.

    Domains without rows in a batch keep their weight relative to each other. With several processes, losses are
    averaged over them first, so all hold the same weights. Nothing moves while the model is in evaluation mode.

    Parameters
    ----------
    loss : nn.Module
        Any sentence-transformers loss on (query, document, ...) columns.
    domains : int
        How many there are: labels are 0 to domains - 1.
    """

    log_weights: Tensor

    def __init__(self, loss: nn.Module, domains: int) -> None:
        super().__init__(loss)
        if domains < 1:
            raise ConfigError(f"domains must be at least 1, got {domains}")
        self.domains = domains
        self.register_buffer("log_weights", torch.full((domains,), 1 / domains).log())

    @property
    def weights(self) -> Tensor:
        """Weights of all domains, shape (domains,), non-negative, summing to 1."""
        return self.log_weights.exp()

    def _combine(self, features: list[dict[str, Any]], labels: Tensor, present: Tensor) -> Tensor:
        if int(present[0]) < 0 or int(present[-1]) >= self.domains:
            raise DataError(
                f"{type(self).__name__}: labels lie in {int(present[0])} to {int(present[-1])}, "
                f"but its domains are 0 to {self.domains - 1}"
            )
        losses = self._losses(features, labels, present)
        if self.model.training and losses.requires_grad:
            moved = self._moved(losses, present)
            self.log_weights.copy_(moved.log_softmax(dim=0))
        weights = self.log_weights[present].softmax(dim=0)
        return (weights * losses).sum()

    @abstractmethod
    def _moved(self, losses: Tensor, present: Tensor) -> Tensor:
        """Return the new logarithms of the weights, shape (domains,), up to a constant."""


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes; the tensor itself where there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        values = values.clone()
        torch.distributed.all_reduce(values)
    return values

"""One batch of texts, encoded twice: first without a graph, then mini-batch by mini-batch with one.

The second pass sees what the first saw - the same rows, the same random numbers, the same autocast - so gradients at
the first pass's embeddings belong to the second's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import get_device_states, set_device_states

from mogrid.errors import ConfigError, DataError
from mogrid.gradients.features import take_rows

__all__ = ["Encoding", "Kept", "Way"]

Embed = Callable[[dict[str, Any]], Tensor]


class Way(Protocol):
    """Embeddings of one batch, shape (B, ...), as a leaf that collects gradients, and the way back into the encoder."""

    leaf: Tensor
    gradients: dict[str, Tensor]

    def backward(self, gradient: Tensor) -> None: ...


class Kept:
    """The plain way: one pass with a graph, which is kept until the weights are known."""

    def __init__(self, embed: Embed, features: Mapping[str, Any]) -> None:
        self.gradients: dict[str, Tensor] = {}
        self._embeddings = embed(dict(features))
        self.leaf = self._embeddings.detach().requires_grad_()

    def backward(self, gradient: Tensor) -> None:
        if self._embeddings.requires_grad:
            self._embeddings.backward(gradient)


class Encoding:
    """Embeddings of one batch as a leaf that collects gradients, and the way back from it into the encoder.

    Parameters
    ----------
    embed : callable
        Takes features of b texts, returns their embeddings, shape (b, ...).
    features : mapping
        Tensors of shape (B, ...) and settings that apply to the whole batch.
    mini_batch_size : int
        Texts encoded at a time. Texts of like length go together, which saves padding.

    Attributes
    ----------
    leaf : Tensor, shape (B, ...)
        In the order of the batch; requires a gradient.
    gradients : dict of str to Tensor, shape (B, ...)
        ∂L_k/∂leaf by objective, kept here by the engine until the weights are known.
    """

    def __init__(self, embed: Embed, features: Mapping[str, Any], mini_batch_size: int) -> None:
        self.gradients: dict[str, Tensor] = {}
        self._embed = embed
        self._features = dict(features)
        self._parts: list[tuple[Tensor, _Conditions]] = []
        order = _by_length(self._features)
        leaf: Tensor | None = None
        with torch.no_grad():
            for rows in order.split(mini_batch_size):
                part = take_rows(self._features, rows)
                self._parts.append((rows, _Conditions(part)))
                embeddings = embed(part)
                if leaf is None:
                    leaf = embeddings.new_empty(len(order), *embeddings.shape[1:])
                leaf[rows] = embeddings
        assert leaf is not None
        self.leaf = leaf.requires_grad_()

    def backward(self, gradient: Tensor) -> None:
        """Encode once more with a graph and add (∂leaf/∂θ)ᵀ `gradient` to the parameters' ``.grad``.

        Mini-batches whose gradient is zero are passed over.

        Parameters
        ----------
        gradient : Tensor, shape of `leaf`
            Of whatever is minimised, at `leaf`.
        """
        for rows, conditions in self._parts:
            part = gradient[rows]
            if not part.any():
                continue
            with conditions.restored(), torch.enable_grad():
                embeddings = self._embed(take_rows(self._features, rows))
            if embeddings.requires_grad:  # it does not with a frozen encoder
                embeddings.backward(part)


def _by_length(features: Mapping[str, Any]) -> Tensor:
    """Return the numbers of all rows, shortest text first."""
    if "cu_seq_lens_q" in features:
        raise ConfigError("features: texts packed without padding have no rows to take mini-batches of; pad them")
    mask = features.get("attention_mask")
    if isinstance(mask, Tensor) and mask.ndim == 2:
        order = mask.sum(dim=1).argsort(stable=True)
    else:
        tensors = [value for value in features.values() if isinstance(value, Tensor) and value.ndim > 0]
        if not tensors:
            raise DataError(f"features: no tensor among {', '.join(map(repr, features)) or 'nothing'}")
        order = torch.arange(len(tensors[0]), device=tensors[0].device)
    if len(order) == 0:
        raise DataError("features: the batch has no texts")
    return order


class _Conditions:
    """State of the random generators and of autocast before a forward."""

    def __init__(self, features: Mapping[str, Any]) -> None:
        tensors = [value for value in features.values() if isinstance(value, Tensor)]
        self.device = tensors[0].device.type
        self.cpu = torch.get_rng_state()
        self.devices, self.states = get_device_states(*tensors)
        self.autocast = torch.is_autocast_enabled(self.device)
        self.dtype = torch.get_autocast_dtype(self.device)

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        with torch.random.fork_rng(self.devices), torch.autocast(self.device, self.dtype, self.autocast):
            torch.set_rng_state(self.cpu)
            set_device_states(self.devices, self.states)
            yield

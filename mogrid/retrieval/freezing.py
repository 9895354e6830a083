"""What of a retriever is not trained: word embeddings, or all below its upper layers, which is then remembered.

A text leaves layers that do not change the same every time. On a processor it goes through them once, and what is
trained - the layers above - costs what so many layers alone cost, in training and in every judging by the process.
That first time each text is read by itself, so that its bits do not depend on its neighbours: it takes a sixth more
than computing would, and is made good when a text comes again (`benchmarks.savings`).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mogrid.errors import ConfigError
from mogrid.flops import encoders
from mogrid.retrieval.thinning import stack_of, transformers_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["freeze"]

_MOST = 1 << 30
"""Bytes that are remembered in a process; what was not asked for longest is forgotten first."""
_NEAR = 1e-5
_PROBE = ("a text", "and another text, which is longer than the first one")

_KNOWN: OrderedDict[tuple[bytes, bytes], NDArray[np.float32]] = OrderedDict()
_held = 0


def freeze(model: SentenceTransformer, what: str | int) -> None:
    """Do not train a part of every tower, in place.

    Parameters
    ----------
    model : SentenceTransformer
    what : "embeddings" or int
        The word embeddings: most of a small model's weights, and of its optimiser's. Or all embeddings and so many of
        the lowest layers; these have no dropout.

    Raises
    ------
    ConfigError
        Neither of these, or no layer is left to train.
    """
    if what == "embeddings":
        for encoder in encoders(model):
            own: Any = encoder
            own.get_input_embeddings().weight.requires_grad_(False)
        return
    if isinstance(what, bool) or not isinstance(what, int) or what < 1:
        raise ConfigError(f"freeze must be 'embeddings' or a number of layers, got {what!r}")
    for transformer in transformers_of(model):
        encoder_: Any = transformer.model
        depth = int(getattr(encoder_.config, "num_hidden_layers", 0))
        if what >= depth:
            raise ConfigError(f"freeze: {what} layers of {depth} leave none to train")
        layers = list(encoder_.get_submodule(stack_of(encoder_, depth)))
        before, upper = True, {id(p) for layer in layers[what:] for p in layer.parameters()}
        for parameter in encoder_.parameters():  # in the order that a text passes them
            before = before and id(parameter) not in upper
            if before:
                parameter.requires_grad_(False)
        still = [m for m in encoder_.children() if not any(id(p) in upper for p in m.parameters())]
        for module in (*still, *layers[:what]):
            _keep_still(module)
    _remember(model, what)


def _keep_still(module: nn.Module) -> None:
    module.eval()
    setattr(module, "train", _Still(module))  # noqa: B010 - methods of instances are no part of a module's type


class _Still:
    """A module's ``train`` that leaves it without dropout."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:
        return self.module


def _remember(model: SentenceTransformer, count: int) -> None:
    """Let the lowest layers remember, where each knows of a text what the one below it made of it, and nothing else."""
    stacks = []
    for transformer in transformers_of(model):
        encoder: Any = transformer.model
        stacks.append(list(encoder.get_submodule(stack_of(encoder, int(encoder.config.num_hidden_layers))))[:count])
    witnesses = [_Witness(layer) for layers in stacks for layer in layers]
    plain = _read(model, witnesses)
    forwards = [each for layers in stacks for each in (_Lower(layers), *[_passed] * (count - 1))]
    lowest = range(0, len(witnesses), count)
    if all(_alone(witnesses[i : i + count]) for i in lowest):
        for layer, forward in zip((layer for layers in stacks for layer in layers), forwards, strict=True):
            setattr(layer, "forward", forward)  # noqa: B010
        if np.allclose(_read(model), plain, atol=_NEAR):
            return
        for layer in (layer for layers in stacks for layer in layers):
            delattr(layer, "forward")


def _read(model: SentenceTransformer, witnesses: Sequence[_Witness] = ()) -> NDArray[np.float32]:
    handles = [each.layer.register_forward_hook(each, with_kwargs=True) for each in witnesses]
    ways = (model.encode_query, model.encode_document)
    try:
        return np.concatenate([np.asarray(way(list(_PROBE), show_progress_bar=False)) for way in ways])
    finally:
        for handle in handles:
            handle.remove()


class _Witness:
    """What a layer was given last, and what it returned."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.given: Any = None
        self.mask: Any = None
        self.output: Any = None
        self.more = False

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        rest = dict(kwargs)
        self.given = args[0] if args else None
        self.mask = args[1] if len(args) > 1 else rest.pop("attention_mask", None)
        self.more = any(isinstance(value, Tensor | tuple | list) for value in (*args[2:], *rest.values()))
        self.output = output


def _alone(layers: Sequence[_Witness]) -> bool:
    """Whether layers were given a tensor each, one mask, and nothing else that belongs to their texts."""
    chained = all(above.given is below.output for below, above in pairwise(layers))
    return chained and all(
        isinstance(each.output, Tensor) and each.mask is layers[0].mask and not each.more for each in layers
    )


def _passed(hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return hidden


class _Lower:
    """The forward of the lowest layer that is that of several, with a memory that outlives the model.

    Every text is read alone, without padding: what is remembered does not depend on what it was read beside.
    """

    def __init__(self, layers: list[nn.Module]) -> None:
        self.layers = layers
        self.name, self.state = b"", tuple[tuple[int, int], ...]()

    def _check(self) -> None:
        """Name the weights, which merging or loading may have changed."""
        tensors = [value for layer in self.layers for value in layer.state_dict().values()]
        state = tuple((value.data_ptr(), 0 if value.is_inference() else value._version) for value in tensors)
        if state != self.state:
            digest = hashlib.sha256()
            for value in tensors:
                digest.update(value.detach().contiguous().numpy().tobytes())
            self.name, self.state = digest.digest(), state

    def __call__(self, hidden: Tensor, mask: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
        lengths = None
        plain = hidden.device.type == "cpu" and hidden.dtype == torch.float32 and not hidden.requires_grad
        if plain and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling():
            lengths = _lengths(hidden, mask)
        if lengths is None:
            return self._through(hidden, mask, *args, **kwargs)
        self._check()
        rows = hidden.detach().numpy()
        found = np.zeros(rows.shape, np.float32)
        for i, length in enumerate(lengths):
            found[i, :length] = self._of(rows[i, :length], *args, **kwargs)
        return torch.from_numpy(found)

    def _through(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        for layer in self.layers:
            hidden = type(layer).forward(layer, hidden, *args, **kwargs)
        return hidden

    def _of(self, row: NDArray[np.float32], *args: Any, **kwargs: Any) -> NDArray[np.float32]:
        global _held
        row = np.ascontiguousarray(row)
        key = self.name, hashlib.blake2b(row.tobytes(), digest_size=16).digest()
        known = _KNOWN.get(key)
        if known is not None:
            _KNOWN.move_to_end(key)
            return known
        with torch.inference_mode():
            known = self._through(torch.from_numpy(row)[None], None, *args, **kwargs)[0].numpy().copy()
        _KNOWN[key] = known
        _held += known.nbytes
        while _held > _MOST:
            _held -= _KNOWN.popitem(last=False)[1].nbytes
        return known


def _lengths(hidden: Tensor, mask: Tensor | None) -> list[int] | None:
    """Return how many tokens each text has; None where that is not for certain, or the padding lies on the left."""
    count, width = hidden.shape[:2]
    if mask is None:
        return [width] * count
    if mask.ndim != 4 or mask.shape[0] != count or mask.shape[-1] != width:
        return None
    allowed = mask[:, 0, -1]
    allowed = allowed if allowed.dtype == torch.bool else allowed == 0
    lengths = allowed.sum(dim=1)
    if not torch.equal(allowed, torch.arange(width) < lengths[:, None]):
        return None
    return [int(length) for length in lengths]

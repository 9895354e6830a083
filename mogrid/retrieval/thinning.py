"""Thinner encoders: some layers of a pretrained one, the rest left out."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mogrid.errors import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from torch import Tensor

__all__ = ["dropout_of", "kept_layers", "rebuild", "set_dropout", "stack_of", "thin", "transformers_of"]


def kept_layers(layers: int | Sequence[int], depth: int) -> list[int]:
    """Return which of `depth` layers are kept, counted from 0.

    Parameters
    ----------
    layers : int or sequence of int
        So many, evenly spaced, with the first and the last among them; one alone is the last, which made the
        embeddings that the model was trained for. Or which.
    depth : int
        Layers that the model has.

    Raises
    ------
    ConfigError
        There is no such layer, or none is kept.
    """
    has = f"the model has {depth} (0 to {depth - 1})"
    if isinstance(layers, int):
        if not 1 <= layers <= depth:
            raise ConfigError(f"layers: {layers} cannot be kept, {has}")
        if layers == 1:
            return [depth - 1]
        return [int(i * (depth - 1) / (layers - 1) + 0.5) for i in range(layers)]
    chosen = list(layers)
    if not chosen:
        raise ConfigError(f"layers: none is kept; {has}")
    for layer in chosen:
        if not 0 <= layer < depth:
            raise ConfigError(f"layers: there is no layer {layer}, {has}")
    if any(later <= earlier for earlier, later in pairwise(chosen)):
        raise ConfigError(f"layers: {chosen} is not in rising order, each once")
    return chosen


def thin(model: SentenceTransformer, layers: int | Sequence[int]) -> None:
    """Keep some layers of every encoder of a retriever, in place. Parameters as in `kept_layers`.

    Raises
    ------
    ConfigError
        There is no such layer, or the encoder is no stack of layers that can be told from its other parts.
    """
    for transformer in transformers_of(model):
        encoder: Any = transformer.model
        depth = int(getattr(encoder.config, "num_hidden_layers", 0))
        name = stack_of(encoder, depth)
        kept = kept_layers(layers, depth)
        if len(kept) == depth:
            continue
        changes: dict[str, Any] = {"num_hidden_layers": len(kept)}
        for key, value in encoder.config.to_dict().items():  # such as `layer_types`: what each layer is
            if isinstance(value, list) and len(value) == depth:
                changes[key] = [value[i] for i in kept]
        number = {layer: i for i, layer in enumerate(kept)}
        state = {}
        for key, value in encoder.state_dict().items():
            if key.startswith(f"{name}."):
                layer, _, rest = key.removeprefix(f"{name}.").partition(".")
                if int(layer) not in number:
                    continue
                key = f"{name}.{number[int(layer)]}.{rest}"
            state[key] = value
        rebuild(transformer, changes, state, f"layers {kept} of {type(encoder).__name__} do not stand alone")


def set_dropout(model: SentenceTransformer, dropout: float) -> None:
    """Give every encoder of a retriever another dropout, in place: on its embeddings, layers and attention.

    Raises
    ------
    ConfigError
        The encoder's configuration has no dropout.
    """
    for transformer in transformers_of(model):
        encoder: Any = transformer.model
        names = dropout_of(transformer)
        if not names:
            raise ConfigError(f"dropout: {type(encoder).__name__} has none")
        rebuild(transformer, dict.fromkeys(names, dropout), encoder.state_dict(), "dropout cannot be changed")


def dropout_of(transformer: Transformer) -> dict[str, float]:
    """Return every dropout of an encoder's configuration."""
    encoder: Any = transformer.model
    settings = encoder.config.to_dict().items()
    return {key: value for key, value in settings if "dropout" in key and isinstance(value, int | float)}


def transformers_of(model: SentenceTransformer) -> list[Transformer]:
    """Return what encodes text in a retriever: one module, or one a tower."""
    from sentence_transformers.base.modules import Transformer

    return [module for module in model.modules() if isinstance(module, Transformer)]


def stack_of(encoder: nn.Module, depth: int) -> str:
    """Return the name of the list of an encoder's layers."""
    lists = [n for n, m in encoder.named_modules() if isinstance(m, nn.ModuleList) and len(m) == depth and _alike(m)]
    found = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    if len(found) != 1:
        raise ConfigError(f"layers: {type(encoder).__name__} is no single stack of layers")
    return found[0]


def _alike(modules: nn.ModuleList) -> bool:
    return len({type(module) for module in modules}) == 1 and any(True for _ in modules.parameters())


def rebuild(transformer: Transformer, changes: Mapping[str, Any], state: Mapping[str, Tensor], failed: str) -> None:
    """Make the encoder anew from a changed configuration, as it will be when it is loaded, and fill in its weights."""
    old: Any = transformer.model
    config = copy.deepcopy(old.config)
    for key, value in changes.items():
        setattr(config, key, value)
    try:
        with torch.random.fork_rng(devices=[]):  # weights are drawn first, and then replaced
            new = type(old)(config)
        new.load_state_dict(state, strict=True)
    except (RuntimeError, ValueError, IndexError) as error:
        raise ConfigError(f"{failed} ({' '.join(str(error).split())[:160]})") from error
    transformer.model = new.to(device=old.device, dtype=old.dtype).train(old.training)

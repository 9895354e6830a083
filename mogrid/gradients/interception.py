"""Losses that call the model themselves, led through the cache."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from mogrid.errors import ConfigError

__all__ = ["embeddings_of", "intercepted"]

Forward = Callable[[dict[str, Any]], Any]


@contextlib.contextmanager
def intercepted(model: nn.Module, encode: Callable[[Forward, Mapping[str, Any]], Tensor]) -> Iterator[None]:
    """Hand calls of the model, with its own forward, to `encode` for as long as the context is open.

    The caller gets a mapping with ``sentence_embedding`` alone: a loss that looks further into the encoder (hooks,
    token embeddings) finds nothing there.
    """
    target: Any = model
    original = target.forward
    shadowed = "forward" in target.__dict__  # accelerate puts its own there

    def forward(features: Mapping[str, Any], **options: Any) -> dict[str, Tensor]:
        return {"sentence_embedding": encode(partial(original, **options), features)}

    target.forward = forward
    try:
        yield
    finally:
        if shadowed:
            target.forward = original
        else:
            del target.forward


def embeddings_of(output: Any) -> Tensor:
    """Return the embeddings in what a model returned.

    Raises
    ------
    ConfigError
        It is neither a tensor nor a mapping with ``sentence_embedding``.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping) and isinstance(output.get("sentence_embedding"), Tensor):
        return output["sentence_embedding"]
    raise ConfigError(
        f"model: expected embeddings or a mapping with 'sentence_embedding', it returned {type(output).__name__}"
    )

"""Low-rank adapters (peft) inside a retriever, and how its word embeddings are trained."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from mogrid.errors import ConfigError
from mogrid.flops import encoders
from mogrid.retrieval.thinning import rebuild, transformers_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["add_lora", "fold_adapters", "sparse_embeddings"]


def add_lora(
    model: SentenceTransformer,
    *,
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.0,
    targets: Sequence[str] | None = None,
    seed: int = 0,
) -> None:
    """Put low-rank adapters beside the weights of every tower, in place; of an encoder, only they are trained then.

    A fresh adapter changes no embedding. `fold_adapters` makes a plain model of the trained one.

    Parameters
    ----------
    model : SentenceTransformer
    rank : int
        Of the change to each weight matrix.
    alpha : float
        The change is scaled by ``alpha / rank``.
    dropout : float
        On what the adapters read.
    targets : sequence of str, optional
        Ends of the names of the linear layers that get one, such as ``query`` and ``value``; all but the pooler's when
        left out.
    seed : int
        Of the adapters' weights; the global generators are left as they were.

    Raises
    ------
    ConfigError
        peft is missing, or the model has no such layer.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError("lora needs peft: pip install peft") from error
    chosen = "all-linear" if targets is None else list(targets)
    settings: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout, "target_modules": chosen}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for encoder in encoders(model):
            try:
                inject_adapter_in_model(LoraConfig(exclude_modules=r".*pooler.*", **settings), encoder)
            except ValueError as error:
                linear = {n.rpartition(".")[2] for n, m in encoder.named_modules() if isinstance(m, torch.nn.Linear)}
                raise ConfigError(
                    f"lora: no layer of the model is called {' or '.join(map(repr, targets or ()))}; "
                    f"its linear layers: {', '.join(sorted(linear))}"
                ) from error


def fold_adapters(model: SentenceTransformer) -> None:
    """Add every adapter's change to the weights it stands beside and remove it, in place: a plain model is left."""
    if "peft" not in sys.modules:  # without it there can be none
        return
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    wrapped = [(n, m) for n, m in model.named_modules() if isinstance(m, BaseTunerLayer | ModulesToSaveWrapper)]
    for name, module in wrapped:
        layer: Any = module
        if isinstance(module, BaseTunerLayer):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
        else:
            model.set_submodule(name, layer.modules_to_save[layer.active_adapter])
    if not wrapped:
        return
    for transformer in transformers_of(model):
        # Made anew: what loaded the adapters has left notes in the encoder that would rename weights when it is saved.
        encoder: Any = transformer.model
        rebuild(transformer, {}, encoder.state_dict(), "adapters cannot be folded")
    for parameter in model.parameters():
        parameter.requires_grad_(True)


@contextmanager
def sparse_embeddings(model: SentenceTransformer) -> Iterator[None]:
    """Let the word embeddings of every tower have sparse gradients for a while, on a processor.

    A dense one is the whole table's size, written anew for every column of every batch: a fifth of what training one
    layer takes. What is summed is the same. On other devices nothing changes.
    """
    found: list[Any] = []
    for encoder in encoders(model):
        own: Any = encoder
        table = own.get_input_embeddings()
        if isinstance(table, torch.nn.Embedding) and table.weight.device.type == "cpu" and not table.sparse:
            found.append(table)
    for table in found:
        table.sparse = True
    try:
        yield
    finally:
        for table in found:
            table.sparse = False

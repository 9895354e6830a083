"""The base model of a training: from scratch by size, or pretrained, whole or thinned, with or without adapters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from sentence_transformers.util import get_device_name

from mogrid.errors import ConfigError
from mogrid.files import cache_folder
from mogrid.retrieval.adapters import add_lora, fold_adapters
from mogrid.retrieval.freezing import freeze as freeze_part
from mogrid.retrieval.healing import Heal, healed
from mogrid.retrieval.pretrained import EMBEDDED, ROUTES, Style, load_retriever, two_towers
from mogrid.retrieval.scratch import SIZES, build_retriever, parse_size, train_tokenizer
from mogrid.retrieval.thinning import set_dropout, thin

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "EMBEDDED",
    "ROUTES",
    "SIZES",
    "Heal",
    "Style",
    "base_model",
    "build_retriever",
    "fold_adapters",
    "load_retriever",
    "parse_size",
    "train_tokenizer",
]

_MAX_LENGTH = 64  # tokens, from scratch
_DROPOUT = 0.1  # from scratch


def base_model(
    path: str | None = None,
    *,
    size: str = SIZES[0],
    vocabulary: int = 8192,
    texts: Iterable[str] = (),
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_length: int | None = None,
    layers: int | Sequence[int] | None = None,
    dropout: float | None = None,
    heal: Heal | None = None,
    cache: Path | None = None,
    lora: Mapping[str, Any] | None = None,
    freeze: str | int | None = None,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
    **style: Unpack[Style],
) -> SentenceTransformer:
    """Return the model that a training begins with.

    Parameters
    ----------
    path : str, optional
        A folder or Hub id, as `load_retriever` takes it; from scratch when left out.
    size : str
        ``LAYERSxWIDTH``, from scratch.
    vocabulary : int
        Word pieces, from scratch.
    texts : iterable of str
        Of training role: what a vocabulary is learned from, from scratch, and what a healing reads.
    tokenizer : PreTrainedTokenizerBase, optional
        From scratch, in place of one learned from `texts`.
    max_length : int, optional
        Tokens after which texts are cut; the model's own when left out, 64 from scratch.
    layers : int or sequence of int, optional
        Keep only these of a pretrained model; see `mogrid.retrieval.thinning.kept_layers`.
    dropout : float, optional
        The model's own when left out, .1 from scratch.
    heal : Heal, optional
        Teach a thinned model the embeddings of the whole one on `texts`, once: what it did and cost is the returned
        model's attribute ``healing``, a `Healing`.
    cache : Path, optional
        A folder that keeps healed models and learned vocabularies; that of `mogrid.files.cache_folder` when left out.
    lora : mapping, optional
        Train low-rank adapters alone; settings as in `mogrid.retrieval.adapters.add_lora`. `fold_adapters` makes a
        plain model of the result.
    freeze : "embeddings" or int, optional
        Do not train the word embeddings, or all embeddings and so many of the lowest layers; see
        `mogrid.retrieval.freezing.freeze`.
    seed : int
        Of weights that are drawn; the global generators are left as they were.
    progress : callable of the share done
        Of a healing, which may take minutes.
    **style
        See `Style`.

    Raises
    ------
    ConfigError
        A setting has a wrong value, or the model has no such layer.
    DataError
        There is no such model, or there is no text to learn a vocabulary from.
    """
    if path is None:
        if layers is not None or heal is not None:
            raise ConfigError("layers are those of a pretrained model: name its path")
        own = tokenizer or train_tokenizer(texts, vocabulary, max_length or _MAX_LENGTH, cache or cache_folder())
        model = build_retriever(size, own, dropout=_DROPOUT if dropout is None else dropout, seed=seed, **style)
    else:
        one: Style = {**style, "towers": 1}
        model = load_retriever(path, max_length=max_length, **one)
        whole = copy.deepcopy(model) if heal is not None else model
        if layers is not None:
            thin(model, layers)
        if heal is not None:
            device = get_device_name()
            healing = healed(model.to(device), whole.to(device), texts, heal, cache or cache_folder(), progress)
            model.to("cpu")
        if dropout is not None:
            set_dropout(model, dropout)
        if style.get("towers", 1) == 2:
            model = two_towers(model)
        if heal is not None:
            setattr(model, "healing", healing)  # noqa: B010 - a module's own type allows no other attributes
    if lora is not None:
        add_lora(model, **lora, seed=seed)
    if freeze is not None:
        freeze_part(model, freeze)
    return model

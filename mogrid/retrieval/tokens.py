"""Tokenise every text once a worker: all from-scratch runs of an experiment share one vocabulary.

Tokenising is a fifth of training a small encoder (`benchmarks.savings`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["remembering"]

_IDS, _MASK, _TYPES = "input_ids", "attention_mask", "token_type_ids"

# (vocabulary, maximum length, task, prompt) → text → its token ids
_KNOWN: dict[tuple[int, int, str | None, str], dict[str, NDArray[np.int32]]] = {}


def remembering(model: SentenceTransformer) -> Callable[..., Mapping[str, Any]]:
    """Return the model's ``preprocess`` with a memory that outlives the model.

    It gives the same features; everything it does not know how to rebuild from token ids
    (another tokenizer than a fast one, left padding, type ids, other modalities) is passed on.
    """
    tokenizer: Any = model.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or tokenizer.padding_side != "right" or tokenizer.pad_token_id is None:
        return model.preprocess
    vocabulary, pad = hash(backend.to_str()), int(tokenizer.pad_token_id)
    rest: dict[tuple[str, str], dict[str, Any]] = {}

    def preprocess(texts: Sequence[str], task: str | None = None, prompt: str | None = None, **options: Any) -> Any:
        texts = list(texts)
        if options or not texts:
            return model.preprocess(texts, task=task, prompt=prompt, **options)
        form = str(task), prompt or ""
        known = _KNOWN.setdefault((vocabulary, int(model.max_seq_length or 0), task, form[1]), {})
        missing = list(dict.fromkeys(text for text in texts if text not in known))
        if missing or form not in rest:
            features: dict[str, Any] = dict(model.preprocess(missing or texts[:1], task=task, prompt=prompt))
            tensors = {_IDS, _MASK, _TYPES} & features.keys()
            if bool(features[_TYPES].any()) if _TYPES in tensors else False:
                return model.preprocess(texts, task=task, prompt=prompt)
            rest[form] = {key: value for key, value in features.items() if key not in tensors}
            rest[form] |= dict.fromkeys(tensors)
            ids, lengths = features[_IDS].numpy().astype(np.int32), features[_MASK].sum(dim=1).tolist()
            known.update((text, row[:n].copy()) for text, row, n in zip(missing, ids, lengths, strict=False))
        return _padded([known[text] for text in texts], pad, rest[form])

    return preprocess


def _padded(rows: Sequence[NDArray[np.int32]], pad: int, form: Mapping[str, Any]) -> dict[str, Any]:
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad, np.int64)
    ids[mask] = np.concatenate(rows)
    arrays = {_IDS: ids, _MASK: mask.astype(np.int64), _TYPES: np.zeros_like(ids)}
    return {key: torch.from_numpy(arrays[key]) if key in arrays else value for key, value in form.items()}

"""InfoNCE for large batches: known false negatives masked by document id, negatives gathered over processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from sentence_transformers.base.losses.merged_forward import embed_columns
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mogrid.errors import ConfigError, DataError
from mogrid.objectives.scores import compared

__all__ = ["UNKNOWN", "MaskedInfoNCE", "gather_rows", "masked_info_nce"]

UNKNOWN = -1
"""The id of a document of which nothing is known; it equals no other, itself included."""


class MaskedInfoNCE(nn.Module):
    """In-batch InfoNCE over the model's own scores whose denominator leaves out known positives.

    Columns are (query, document, hard negatives ...). The dataset's ``label`` column holds int64 document ids: one a
    row, or a list of the ids of the row's document columns followed by further known positives of its query, padded
    with -1. Another row's document is no negative of a query when its id is that of the query's own document or one
    of its known positives. Ids rather than texts, because dropout gives equal texts unequal embeddings.

    Parameters
    ----------
    model : SentenceTransformer
        What is trained; its own similarity makes the scores.
    temperature : float
        Scores are divided by it.
    gather : bool
        Take the documents of all processes as negatives; see `masked_info_nce`.
    """

    def __init__(self, model: Any, temperature: float = 1.0, gather: bool = False) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.gather = gather

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> Tensor:
        features = list(sentence_features)
        if len(features) < 2:
            raise DataError(f"MaskedInfoNCE: expected the columns (query, document, ...), got {len(features)}")
        queries, *documents = compared(self.model, embed_columns(self.model, features))
        ids = known = None
        if labels is not None:
            labels = labels.reshape(len(queries), -1)
            if labels.shape[1] != 1 and labels.shape[1] < len(documents):
                raise DataError(
                    f"MaskedInfoNCE: label holds {labels.shape[1]} ids a row for {len(documents)} document columns"
                )
            own = labels[:, : len(documents)]  # one id a row leaves the hard negatives' unknown
            own = F.pad(own, (0, len(documents) - own.shape[1]), value=UNKNOWN)
            ids, known = own.T.flatten(), labels[:, len(documents) :]
        return masked_info_nce(
            queries,
            torch.cat(documents),
            document_ids=ids,
            known_positives=known,
            temperature=self.temperature,
            gather=self.gather,
        )


def masked_info_nce(
    queries: Tensor,
    documents: Tensor,
    *,
    document_ids: Tensor | None = None,
    known_positives: Tensor | None = None,
    temperature: float = 1.0,
    gather: bool = False,
    block: int = 2048,
) -> Tensor:
    """Return the mean over queries of −log softmax of the positive's score among positive and negatives.

    Parameters
    ----------
    queries : Tensor, shape (B, d)
        Embeddings, such that inner products are the scores.
    documents : Tensor, shape (N, d), N ≥ B
        Row i < B is the positive of query i; the others are its negatives.
    document_ids : Tensor, shape (N,), int64, optional
        A document with the id of a query's positive is not among its negatives; -1 is unknown and equals nothing.
    known_positives : Tensor, shape (B, m), int64, optional
        Further ids that are not among a query's negatives, padded with -1.
    temperature : float
        Scores are divided by it.
    gather : bool
        Take the documents of all ranks of the default process group, with gradient: each rank's loss reaches the
        others' documents. Losses are scaled so that their mean over ranks is the loss of the union batch.
    block : int
        Queries scored at a time. Of larger batches the score matrix is computed again in the backward, block by
        block, and never stands whole in memory.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    ConfigError, DataError
        The temperature is not positive; shapes do not fit each other; known positives without document ids.

    Notes
    -----
    InfoNCE: van den Oord et al., arXiv 1807.03748; in-batch negatives: DPR, arXiv 2004.04906.
    """
    count = len(queries)
    if not temperature > 0:
        raise ConfigError(f"temperature must be positive, got {temperature}")
    if len(documents) < count:
        raise DataError(f"{count} queries need at least {count} documents, got {len(documents)}")
    if document_ids is None:
        if known_positives is not None:
            raise DataError("known_positives: they name documents by id, so document_ids are needed, too")
    elif document_ids.shape != (len(documents),):
        raise DataError(f"document_ids: expected {len(documents)}, one a document, got {list(document_ids.shape)}")
    if known_positives is not None and (known_positives.ndim != 2 or len(known_positives) != count):
        raise DataError(f"known_positives: expected {count} x m ids, got {list(known_positives.shape)}")
    excluded = None
    if document_ids is not None:
        excluded = document_ids[:count, None]
        if known_positives is not None:
            excluded = torch.cat([excluded, known_positives], dim=1)
    share, first = 1.0, 0
    if gather and dist.is_initialized():
        sizes = _sizes(len(documents), documents)
        first = sum(sizes[: dist.get_rank()])
        documents = _Gather.apply(documents, sizes)
        if document_ids is not None:
            document_ids = _Gather.apply(document_ids, sizes)
        share = count * len(sizes) / sum(_sizes(count, queries))
    if count <= block:
        total = _summed(queries, documents, document_ids, excluded, first, temperature)
    else:
        total = queries.new_zeros(())
        for start in range(0, count, block):
            rows = slice(start, start + block)
            left_out = None if excluded is None else excluded[rows]
            arguments = (queries[rows], documents, document_ids, left_out, first + start, temperature)
            total = total + checkpoint(_summed, *arguments, use_reentrant=False)
    return share * total / count


def _summed(
    queries: Tensor,
    documents: Tensor,
    ids: Tensor | None,
    excluded: Tensor | None,
    first: int,
    temperature: float,
) -> Tensor:
    """Sum over consecutive queries, the first of which has document `first` as its positive."""
    scores = queries @ documents.T / temperature
    targets = torch.arange(first, first + len(queries), device=scores.device)
    if ids is not None and excluded is not None:
        false = torch.zeros_like(scores, dtype=torch.bool)
        for column in excluded.T:  # one (b, N) comparison at a time: b x N x m booleans could outweigh the scores
            false |= ids == column[:, None]
        false &= ids != UNKNOWN
        false[torch.arange(len(targets), device=scores.device), targets] = False
        scores = scores.masked_fill(false, -torch.inf)
    return F.cross_entropy(scores, targets, reduction="sum")


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows of all ranks of the default process group, in the order of ranks; without one, `rows`.

    Ranks may hold unequal numbers of rows. The gradient of a row is the sum over ranks of what their losses give it.

    Parameters
    ----------
    rows : Tensor, shape (B, ...)
        Those of this rank.

    Returns
    -------
    Tensor, shape (ΣB, ...)
    """
    if not dist.is_initialized():
        return rows
    gathered: Tensor = _Gather.apply(rows, _sizes(len(rows), rows))
    return gathered


def _sizes(count: int, like: Tensor) -> list[int]:
    mine = torch.tensor([count], device=like.device)
    sizes = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, mine)
    return torch.cat(sizes).tolist()


class _Gather(torch.autograd.Function):
    """All-gather of unequal numbers of rows; its backward is an all-reduce, which every backend has."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.split(ctx.sizes)[dist.get_rank()], None

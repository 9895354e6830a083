"""The contrastive loss: what is masked, in blocks and in several processes."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import nn

from mogrid.errors import ConfigError, DataError
from mogrid.gradients import CachedEngine
from mogrid.objectives import InfoNCE, MaskedInfoNCE, gather_rows, masked_info_nce
from mogrid.solvers import MGDA
from tests.gradients.cached_references import combined, flat
from tests.processes import on_ranks


def by_definition(queries, documents, ids, known, temperature):
    """The loss with Python loops and sets."""
    total = 0.0
    for i, query in enumerate(queries):
        excluded = {int(ids[i]), *(known[i].tolist() if known is not None else [])} - {-1}
        scores = [
            float(query @ document) / temperature
            for j, document in enumerate(documents)
            if j == i or int(ids[j]) not in excluded
        ]
        own = float(query @ documents[i]) / temperature
        total += math.log(sum(math.exp(s - own) for s in scores))
    return total / len(queries)


@given(
    data=st.data(),
    count=st.integers(1, 6),
    negatives=st.integers(0, 5),
    positives=st.integers(0, 3),
    block=st.sampled_from([1, 2, 2048]),
)
@settings(max_examples=60, deadline=None)
def test_masked_loss_is_its_definition(data, count, negatives, positives, block) -> None:
    identity = st.integers(-1, 4)
    seed = data.draw(st.integers(0, 1000))
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    documents = torch.randn(count + negatives, 3, generator=generator, dtype=torch.float64)
    ids = torch.tensor(data.draw(st.lists(identity, min_size=len(documents), max_size=len(documents))))
    drawn = [data.draw(st.lists(identity, min_size=positives, max_size=positives)) for _ in range(count)]
    known = torch.tensor(drawn, dtype=torch.int64).reshape(count, positives) if positives else None
    value = masked_info_nce(queries, documents, document_ids=ids, known_positives=known, temperature=0.7, block=block)
    assert value.item() == pytest.approx(by_definition(queries, documents, ids, known, 0.7), rel=1e-9, abs=1e-12)


def test_masked_documents_get_no_gradient_from_the_queries_they_answer() -> None:
    queries = torch.eye(3, dtype=torch.float64).requires_grad_()
    documents = torch.ones(3, 3, dtype=torch.float64).requires_grad_()
    masked_info_nce(
        queries, documents, document_ids=torch.tensor([5, 5, 8]), known_positives=torch.tensor([[8], [-1], [-1]])
    ).backward()
    influence = documents.grad  # row j, column i: what query i does to document j
    assert influence[0, 1] == influence[1, 0] == 0  # equal ids
    assert influence[2, 0] == 0  # known positive of query 0
    assert influence[0, 0] == 0  # and so query 0 has no negative left
    assert influence[2, 1] > 0  # document 2 is a negative of query 1
    assert influence[0, 2] > 0
    assert influence[1, 2] > 0


@pytest.mark.parametrize("block", [1, 3, 7])
def test_blocks_change_neither_loss_nor_gradient(block) -> None:
    generator = torch.Generator().manual_seed(0)
    results = []
    for size in (2048, block):
        generator.manual_seed(0)
        queries = torch.randn(7, 4, generator=generator, dtype=torch.float64, requires_grad=True)
        documents = torch.randn(9, 4, generator=generator, dtype=torch.float64, requires_grad=True)
        loss = masked_info_nce(queries, documents, document_ids=torch.arange(9) % 4, block=size)
        loss.backward()
        results.append((loss, queries.grad, documents.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_without_ids_it_is_infonce(retriever, columns) -> None:
    model = retriever()
    pair = [columns["query"], columns["document"]]
    torch.testing.assert_close(
        MaskedInfoNCE(model, temperature=0.5)([dict(c) for c in pair]),
        InfoNCE(model, temperature=0.5)([dict(c) for c in pair], None),
    )


def test_labels_are_document_ids(retriever, columns) -> None:
    """One id a row; ids of every document column; further known positives of the query."""
    model = retriever()
    three = [columns["query"], columns["document"], columns["typo"]]
    queries, documents, hard = (model(dict(c))["sentence_embedding"] for c in three)
    loss = MaskedInfoNCE(model)
    ids = torch.arange(16) // 2
    torch.testing.assert_close(
        loss([dict(c) for c in three[:2]], ids), masked_info_nce(queries, documents, document_ids=ids)
    )
    unknown = torch.full((16,), -1)
    torch.testing.assert_close(
        loss([dict(c) for c in three], ids),
        masked_info_nce(queries, torch.cat([documents, hard]), document_ids=torch.cat([ids, unknown])),
    )
    labels = torch.stack([ids, ids + 3, torch.full((16,), 4), unknown], dim=1)
    torch.testing.assert_close(
        loss([dict(c) for c in three], labels),
        masked_info_nce(
            queries,
            torch.cat([documents, hard]),
            document_ids=torch.cat([ids, ids + 3]),
            known_positives=torch.tensor([[4, -1]] * 16),
        ),
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"temperature": 0.0}, ConfigError, "temperature must be positive, got 0"),
        ({"documents": torch.ones(2, 4)}, DataError, "3 queries need at least 3 documents, got 2"),
        ({"document_ids": torch.arange(3)}, DataError, r"expected 5, one a document, got \[3\]"),
        ({"known_positives": torch.zeros(3, 1).long()}, DataError, "document_ids are needed"),
        (
            {"document_ids": torch.arange(5), "known_positives": torch.zeros(2, 1).long()},
            DataError,
            r"expected 3 x m ids, got \[2, 1\]",
        ),
    ],
)
def test_bad_input(change, error, message) -> None:
    arguments = {"queries": torch.ones(3, 4), "documents": torch.ones(5, 4)} | change
    with pytest.raises(error, match=message):
        masked_info_nce(arguments.pop("queries"), arguments.pop("documents"), **arguments)


def test_bad_columns(retriever, columns) -> None:
    loss = MaskedInfoNCE(retriever())
    with pytest.raises(DataError, match="got 1"):
        loss([columns["query"]])
    with pytest.raises(DataError, match="holds 2 ids a row for 3 document columns"):
        loss([dict(columns[c]) for c in ("query", "document", "typo", "typo")], torch.zeros(16, 2).long())


# -- several processes -------------------------------------------------------------------------------------------------

RANKS = {1: [slice(0, 16)], 2: [slice(0, 10), slice(10, 16)]}  # unequal shares


def step(model, columns, rows, gramian, gather):
    """One cached step of two objectives on some of the rows, ids masked; returns weights, norms, losses, gradient."""
    ids = torch.arange(16) % 11
    engine = CachedEngine(
        model, ("ranking", "typos"), MGDA(normalise="l2"), mini_batch_size=4, gramian=gramian, reduce=gather
    )
    part = {
        name: {k: v[rows] if isinstance(v, torch.Tensor) else v for k, v in features.items()}
        for name, features in columns.items()
    }
    query, typo, document = (engine.encode(part[c]) for c in ("query", "typo", "document"))
    settings = {"document_ids": ids[rows], "known_positives": ids[rows][:, None] + 1, "gather": gather}
    report = engine.backward(
        {
            "ranking": masked_info_nce(query, document, temperature=0.5, **settings),
            "typos": masked_info_nce(typo, document, temperature=0.2, **settings),
        }
    )
    values = [
        *report.weights.values(),
        *report.gradient_norms.values(),
        *report.losses.values(),
        *report.cosines.values(),
    ]
    return torch.cat([torch.tensor(values, dtype=torch.float64), combined(model)])


@pytest.mark.parametrize("gramian", ["representation", "exact"])
def test_two_processes_equal_one_on_the_union(retriever, columns, gramian) -> None:
    """Unequal shares, masks across ranks: weights, norms, losses and every entry of the gradient."""
    alone = step(retriever(), columns, slice(None), gramian, gather=False)
    model = retriever()
    ranks = on_ranks(2, lambda rank: step(model, columns, RANKS[2][rank], gramian, gather=True))
    assert torch.equal(*ranks)
    torch.testing.assert_close(ranks[0], alone, rtol=1e-7, atol=1e-11)


def test_gathered_rows_carry_the_gradient_of_every_rank() -> None:
    def task(rank):
        mine = torch.full((rank + 1, 2), float(rank), requires_grad=True)
        union = gather_rows(mine)
        (union * (rank + 1)).sum().backward()
        return torch.cat([union.detach(), mine.grad])

    first, second = on_ranks(2, task)
    assert torch.equal(first, torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0], [3.0, 3.0]]))
    assert torch.equal(second[:3], first[:3])
    assert torch.equal(second[3:], torch.full((2, 2), 3.0))


def test_gather_without_processes_is_the_identity() -> None:
    rows = torch.ones(2, 2)
    assert gather_rows(rows) is rows


def test_parameters_of_a_loss_in_two_processes(retriever, columns) -> None:
    """They lie on every rank, unlike the rows of the embeddings: the mean over ranks comes before their products."""

    def heads(model, rank, world):
        scale = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        rows = RANKS[world][rank] if world == 1 else slice(8 * rank, 8 * rank + 8)
        engine = CachedEngine(
            model, ("high", "low"), MGDA(), parameters=[*model.parameters(), scale], mini_batch_size=4, reduce=world > 1
        )
        query = engine.encode({k: v[rows] if torch.is_tensor(v) else v for k, v in columns["query"].items()})
        report = engine.backward(
            {"high": (query * scale - 1).square().mean(), "low": (query - 2 * scale).square().mean()}
        )
        values = [*report.weights.values(), *report.gradient_norms.values()]
        parameters = [*model.parameters(), scale]
        return torch.cat([torch.tensor(values, dtype=torch.float64), flat([p.grad for p in parameters], parameters)])

    model = retriever()
    ranks = on_ranks(2, lambda rank: heads(model, rank, 2))
    assert torch.equal(*ranks)
    torch.testing.assert_close(ranks[0], heads(model, 0, 1), rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("gramian", ["representation", "exact"])
def test_losses_that_call_a_distributed_model(retriever, columns, gramian) -> None:
    """As in a trainer: the loss holds the DDP wrapper, gathers by its own means, and nothing synchronises twice."""

    def cached(model, rows, gather):
        outer = nn.parallel.DistributedDataParallel(model) if gather else model
        losses = {
            "ranking": MultipleNegativesRankingLoss(outer, gather_across_devices=gather),
            "typos": MaskedInfoNCE(outer, temperature=0.2, gather=gather),
        }
        part = {
            name: {k: v[rows] if isinstance(v, torch.Tensor) else v for k, v in features.items()}
            for name, features in columns.items()
        }
        engine = CachedEngine(
            model, tuple(losses), MGDA(normalise="l2"), mini_batch_size=4, gramian=gramian, reduce=gather
        )
        with outer.no_sync() if gather else contextlib.nullcontext():
            report = engine.backward(
                {
                    "ranking": lambda: losses["ranking"]([dict(part["query"]), dict(part["document"])], None),
                    "typos": lambda: losses["typos"]([dict(part["typo"]), dict(part["document"])], None),
                }
            )
        values = [*report.weights.values(), *report.losses.values()]
        return torch.cat([torch.tensor(values, dtype=torch.float64), combined(model)])

    alone = cached(retriever(), slice(None), gather=False)
    model = retriever()
    ranks = on_ranks(2, lambda rank: cached(model, slice(8 * rank, 8 * rank + 8), gather=True))
    assert torch.equal(*ranks)
    torch.testing.assert_close(ranks[0], alone, rtol=1e-6, atol=1e-8)

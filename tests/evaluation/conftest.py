"""A small domain with all three splits, and a model that knows nothing of it."""

from __future__ import annotations

import pytest

from mogrid.data.domain import Domain, Role, Split


@pytest.fixture
def domain(texts) -> Domain:
    corpus = {f"d{i}": document for i, (_, document) in enumerate(texts)}
    splits = {}
    for role, rows in ((Role.SELECT, range(30)), (Role.TEST, range(30, 96))):
        queries = {f"q{i}": texts[i][0] for i in rows}
        splits[role] = Split(role, queries, {f"q{i}": {f"d{i}": 1} for i in rows})
    return Domain("words", corpus, splits)

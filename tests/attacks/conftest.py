from __future__ import annotations

import pytest

from mogrid.data.domain import Domain, Role, Split


@pytest.fixture
def domain(texts) -> Domain:
    corpus = {f"d{i}": f"{document.title()}, {document}." for i, (_, document) in enumerate(texts)}
    splits = {}
    for role, suffix in ((Role.SELECT, ""), (Role.TEST, ""), (Role.TRAIN, " now")):
        queries = {f"{role}{i}": query + suffix for i, (query, _) in enumerate(texts)}
        splits[role] = Split(role, queries, {f"{role}{i}": {f"d{i}": 1} for i in range(len(texts))})
    return Domain("words", corpus, splits)

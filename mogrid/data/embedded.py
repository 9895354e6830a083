"""The embedded default: real text that pip alone brings, built in seconds and cached."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from mogrid.data.botocore_docs import botocore_domain
from mogrid.data.docstrings import docstring_domain
from mogrid.data.domain import Collection, Domain, Role, Split
from mogrid.data.words import same_text
from mogrid.errors import DataError
from mogrid.files import cache_folder, write_text

__all__ = ["embedded_collection"]

# (distribution, folder of its sources, role). Every library has one role. numpy and torch are left out: they share
# docstrings with scipy and with each other, so that one of them in training would leak into the other as a test.
_LIBRARIES = (
    ("scipy", "scipy", Role.TRAIN),
    ("pandas", "pandas", Role.TRAIN),
    ("networkx", "networkx", Role.SELECT),
    ("matplotlib", "matplotlib", Role.SELECT),
    ("huggingface_hub", "huggingface_hub", Role.SELECT),
    ("scikit-learn", "sklearn", Role.TEST),
    ("sympy", "sympy", Role.TEST),
    ("stdlib", "", Role.TEST),
)
_LIMIT = 1200
_FORMAT = 2


def embedded_collection(cache: Path | None = None) -> Collection:
    """Return botocore as the source and the docstrings of eight libraries as other domains.

    Parameters
    ----------
    cache : Path, optional
        ``$MOGRID_CACHE`` or ``~/.cache/mogrid`` by default. The cached file is keyed by the versions of everything
        read; a damaged one is built again.

    Raises
    ------
    DataError
        A library is missing; the message says what to install.
    """
    folder = cache or cache_folder()
    key = {"format": _FORMAT, "limit": _LIMIT, "libraries": [list(entry) for entry in _LIBRARIES], **_versions()}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"embedded-{digest}.json"
    cached = _load(path)
    if cached is not None:
        return cached
    collection = _build()
    record = {"fingerprint": collection.fingerprint, "read": key, "domains": [_pack(d) for d in _domains(collection)]}
    with contextlib.suppress(OSError):  # a read-only home costs a few seconds a run, nothing else
        write_text(path, json.dumps(record))
    return collection


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for library in ("botocore", *(name for name, _, _ in _LIBRARIES if name != "stdlib")):
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            raise DataError(f"{library} is not installed: pip install 'mogrid[bench]'") from None
    return versions


def _build() -> Collection:
    source = _apart(botocore_domain())
    others = [docstring_domain(library, package, role, limit=_LIMIT) for library, package, role in _LIBRARIES]
    held_out = {same_text(text) for domain in others if Role.TRAIN not in domain.splits for text in _texts(domain)}
    return Collection(source, tuple(_without(domain, held_out) for domain in others))


def _apart(domain: Domain) -> Domain:
    """Drop from a training split the queries that another split asks word for word: services describe alike."""
    others = [split for role, split in domain.splits.items() if role is not Role.TRAIN]
    kept_out = {same_text(text) for split in others for text in split.queries.values()}
    train = domain.splits[Role.TRAIN]
    queries = {query: text for query, text in train.queries.items() if same_text(text) not in kept_out}
    qrels = {query: judged for query, judged in train.qrels.items() if query in queries}
    splits = {**domain.splits, Role.TRAIN: Split(Role.TRAIN, queries, qrels, train.documents)}
    return Domain(domain.name, domain.corpus, splits)


def _texts(domain: Domain) -> list[str]:
    return [*domain.corpus.values(), *(text for split in domain.splits.values() for text in split.queries.values())]


def _without(domain: Domain, held_out: set[str]) -> Domain:
    """Drop from a training domain every pair of which a side stands in a select or test domain word for word."""
    if Role.TRAIN not in domain.splits:
        return domain
    split = domain.splits[Role.TRAIN]
    kept = {
        query: judged
        for query, judged in split.qrels.items()
        if not {same_text(text) for text in (split.queries[query], *map(domain.corpus.__getitem__, judged))} & held_out
    }
    documents = {d for judged in kept.values() for d in judged}
    return Domain(
        domain.name,
        {d: text for d, text in domain.corpus.items() if d in documents},
        {Role.TRAIN: Split(Role.TRAIN, {query: split.queries[query] for query in kept}, kept)},
    )


def _domains(collection: Collection) -> tuple[Domain, ...]:
    return (collection.source, *collection.ood)


def _pack(domain: Domain) -> dict[str, Any]:
    splits = {
        str(role): {"queries": split.queries, "qrels": split.qrels, "documents": split.documents}
        for role, split in domain.splits.items()
    }
    return {"name": domain.name, "corpus": domain.corpus, "splits": splits}


def _load(path: Path) -> Collection | None:
    """Return the cached collection, or None where there is none, it cannot be read, or it is not what was written."""
    try:
        record = json.loads(path.read_text("utf-8"))
        domains = [
            Domain(
                entry["name"],
                entry["corpus"],
                {Role(role): Split(Role(role), **parts) for role, parts in entry["splits"].items()},
            )
            for entry in record["domains"]
        ]
        collection = Collection(domains[0], tuple(domains[1:]))
        return collection if collection.fingerprint == record["fingerprint"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None

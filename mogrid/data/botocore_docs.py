"""In-domain data from botocore's service models: what an operation does, asked for as people write examples."""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from mogrid.data.docstrings import cut
from mogrid.data.domain import Domain, Role, Split
from mogrid.errors import DataError

__all__ = ["botocore_domain"]

_TAG = re.compile(r"<[^>]+>")
_SENTENCE = re.compile(r"(.{20,}?[.!?])\s+(?=[A-Z\"'(])(.{40,})", re.DOTALL)
_MIN_QUERY_WORDS = 4


def botocore_domain() -> Domain:
    """Build the domain from the installed botocore.

    Corpus: every operation's documentation (the newest version of each service's model). Training: first sentence →
    the rest, for operations that no select or test query is relevant to. Select and test: the descriptions that
    people wrote for usage examples → the operation's documentation; services are split between the two by a hash of
    their name (about one in three selects), so that no service is in both.

    Raises
    ------
    DataError
        botocore is not installed.
    """
    corpus: dict[str, str] = {}
    plain: dict[str, tuple[str, str]] = {}
    examples: dict[Role, dict[str, dict[str, int]]] = {Role.SELECT: {}, Role.TEST: {}}
    for service, model, usage in _services():
        title = str(model["metadata"].get("serviceId", service))
        for operation, description in model["operations"].items():
            text = cut(_plain(description.get("documentation", "")))
            if text:
                corpus[f"{service}.{operation}"] = f"{title}: {text}"
                plain[f"{service}.{operation}"] = (title, text)
        part = Role.SELECT if int(hashlib.sha256(service.encode()).hexdigest(), 16) % 3 == 0 else Role.TEST
        for operation, entries in usage.items():
            if f"{service}.{operation}" not in corpus:
                continue
            for entry in entries:
                query = _plain(entry.get("description") or entry.get("title") or "")
                if len(query.split()) >= _MIN_QUERY_WORDS:
                    examples[part].setdefault(query, {})[f"{service}.{operation}"] = 1
    # One text in both splits would be a leak: it stays where it is tested.
    for query in examples[Role.TEST]:
        examples[Role.SELECT].pop(query, None)
    held_out = {operation for part in examples.values() for judged in part.values() for operation in judged}
    held_texts = {corpus[operation] for operation in held_out}
    queries: dict[str, str] = {}
    rests: dict[str, str] = {}
    for operation, (title, text) in plain.items():
        match = _SENTENCE.match(text)
        if match and operation not in held_out and corpus[operation] not in held_texts:
            queries[f"first:{operation}"] = match[1]
            rests[operation] = f"{title}: {match[2]}"
    train = Split(
        role=Role.TRAIN,
        queries=queries,
        qrels={f"first:{operation}": {operation: 1} for operation in rests},
        documents=rests,  # with its first sentence a document would be found by copying
    )
    return Domain("botocore", corpus, {Role.TRAIN: train, **{r: _split(r, examples[r]) for r in examples}})


def _split(role: Role, examples: dict[str, dict[str, int]]) -> Split:
    ids = {query: f"{role}:{number}" for number, query in enumerate(sorted(examples))}
    return Split(
        role=role,
        queries={identifier: query for query, identifier in ids.items()},
        qrels={ids[query]: judged for query, judged in examples.items()},
    )


def _services() -> Iterator[tuple[str, dict[str, Any], dict[str, list[dict[str, Any]]]]]:
    """Yield (service, its newest model, its usage examples by operation), in order of name."""
    try:
        files = metadata.distribution("botocore")
    except metadata.PackageNotFoundError:
        raise DataError("botocore is not installed: pip install 'mogrid[bench]'") from None
    data = Path(str(files.locate_file("botocore/data")))
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        versions = sorted(path.parent for path in folder.glob("*/service-2.json*"))
        if versions:
            examples = _read(versions[-1], "examples-1").get("examples", {})
            yield folder.name, _read(versions[-1], "service-2"), examples


def _read(folder: Path, name: str) -> dict[str, Any]:
    packed = folder / f"{name}.json.gz"
    if packed.is_file():
        return dict(json.loads(gzip.decompress(packed.read_bytes())))
    path = folder / f"{name}.json"
    return dict(json.loads(path.read_bytes())) if path.is_file() else {}


def _plain(text: str) -> str:
    return " ".join(html.unescape(_TAG.sub(" ", text)).split())

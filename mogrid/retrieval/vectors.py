"""Vectors on disk: those that others made (``.npy`` with ids beside it), and corpora encoded in shards."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save

from mogrid.data.domain import Domain, Role
from mogrid.errors import DataError, EvaluationError
from mogrid.files import write_bytes, write_json, write_text
from mogrid.retrieval.encode import check_finite, encode, similarity
from mogrid.retrieval.search import search
from mogrid.retrieval.splits import EncodedSplit, equal_texts, judged_queries, queries_in_corpus

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Shards", "encode_in_shards", "load_vectors", "model_fingerprint", "save_vectors", "split_from_vectors"]

Floats = NDArray[np.float32]
_MANIFEST = "shards.json"


def save_vectors(path: Path | str, ids: list[str], vectors: NDArray[np.floating[Any]]) -> None:
    """Write ``NAME.npy`` and ``NAME.ids.txt``, an id a line. Raises `EvaluationError` where they do not fit."""
    path = Path(path)
    matrix = np.ascontiguousarray(vectors, dtype=np.float32)
    if matrix.ndim != 2 or len(ids) != len(matrix):
        raise EvaluationError(f"{len(ids)} ids for vectors of shape {matrix.shape}")
    if any("\n" in name or "\r" in name or not name or name[0] == "\ufeff" for name in ids):
        raise EvaluationError("an id is empty, holds a line break or starts with a byte-order mark")
    check_finite(matrix, str(path))
    _write_array(path, matrix)
    write_text(_ids_of(path), "".join(f"{name}\n" for name in ids))


def load_vectors(path: Path | str) -> tuple[list[str], Floats]:
    """Read ids and vectors (n, d), memory-mapped.

    Raises
    ------
    DataError
        A file is missing or damaged, ids repeat, or there are more or fewer than vectors.
    EvaluationError
        A vector is not finite; its row is named.
    """
    path = Path(path)
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a readable array ({error})") from error
    if matrix.ndim != 2 or not np.issubdtype(matrix.dtype, np.floating):
        raise DataError(f"{path}: expected a matrix of floats, got shape {matrix.shape} of {matrix.dtype}")
    names = _ids_of(path)
    try:
        text = names.read_bytes().decode("utf-8-sig").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{names}: cannot be read ({error})") from error
    # Not `splitlines`: an id may hold what else Unicode takes for the end of a line.
    ids = [name.removesuffix("\r") for name in text.split("\n")] if text else []
    if len(ids) != len(matrix):
        raise DataError(f"{names}: {len(ids)} ids for the {len(matrix)} vectors of {path.name}")
    seen: dict[str, int] = {}
    for line, name in enumerate(ids, start=1):
        if name in seen:
            raise DataError(f"{names}:{line}: id {name!r} stands on line {seen[name]}, too")
        seen[name] = line
    check_finite(matrix, path.name)
    return ids, matrix


def split_from_vectors(domain: Domain, role: Role, queries: Path | str, documents: Path | str) -> EncodedSplit:
    """Return a split to judge from vectors that anything made, in place of a model. Inner products are the scores.

    Parameters
    ----------
    domain : Domain
        Says what is relevant; its texts are not read.
    role : Role
    queries, documents : Path
        As `save_vectors` writes them. Vectors of queries that are not judged, or that stand in another split, are
        left out.

    Raises
    ------
    DataError
        A judged query or a document of the corpus has no vector, or a vector's document is not in the corpus.
    EvaluationError
        Widths differ, or a vector is not finite.
    """
    query_ids, query_rows = load_vectors(queries)
    document_ids, document_rows = load_vectors(documents)
    if query_rows.shape[1] != document_rows.shape[1]:
        raise EvaluationError(
            f"{queries} has {query_rows.shape[1]} dimensions, {documents} {document_rows.shape[1]}: not of one model"
        )
    judged, qrels = judged_queries(domain, role)
    place = {name: row for row, name in enumerate(query_ids)}
    for what, path, wanted, there in (
        ("query", queries, judged, place),
        ("document", documents, domain.corpus, dict.fromkeys(document_ids)),
    ):
        missing = [name for name in wanted if name not in there]
        if missing:
            raise DataError(f"{path}: {len(missing)} of {len(wanted)} have no vector, such as {what} {missing[0]!r}")
    unknown = next((name for name in document_ids if name not in domain.corpus), None)
    if unknown is not None:
        raise DataError(f"{documents}: document {unknown!r} is not in the corpus of {domain.name!r}")
    rows = [place[name] for name in judged]
    return EncodedSplit(
        domain=domain.name,
        role=str(role),
        query_ids=list(judged),
        document_ids=document_ids,
        queries=np.ascontiguousarray(query_rows[rows], dtype=np.float32),
        documents=np.ascontiguousarray(document_rows, dtype=np.float32),
        qrels=qrels,
        twins=equal_texts(domain.corpus),
        own=queries_in_corpus(judged, domain.corpus, qrels),
    )


def model_fingerprint(model: SentenceTransformer, kind: str) -> str:
    """Return SHA-256 over whatever decides the vectors: weights, modules, prompts, lengths, and the kind of text."""
    digest = hashlib.sha256(kind.encode())
    how = [dict(model.prompts), model.default_prompt_name, model.truncate_dim, similarity(model)]
    digest.update(json.dumps(how).encode())
    digest.update(repr([(type(m).__name__, getattr(m, "max_seq_length", None)) for m in model.modules()]).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(save({name: tensor.detach().cpu().contiguous()}))
    return digest.hexdigest()


@dataclass(frozen=True)
class Shards:
    """A corpus encoded in shards of a folder, searched without being loaded.

    Attributes
    ----------
    folder : Path
    ids : list of str
    sizes : tuple of int
        Rows of every shard.
    dimension : int
    """

    folder: Path
    ids: list[str]
    sizes: tuple[int, ...]
    dimension: int

    def __iter__(self) -> Iterator[Floats]:
        """Yield each shard (rows, d), memory-mapped."""
        for number in range(len(self.sizes)):
            yield np.load(_shard(self.folder, number), mmap_mode="r", allow_pickle=False)

    def search(self, queries: NDArray[np.floating[Any]], k: int) -> tuple[Floats, NDArray[np.int64]]:
        """Return what `mogrid.retrieval.search` would over all rows, with one shard in memory at a time."""
        scores: Floats | None = None
        rows: NDArray[np.int64] | None = None
        start = 0
        for vectors in self:
            found, places = search(queries, vectors, k)
            scores = found if scores is None else np.concatenate([scores, found], axis=1)
            rows = places + start if rows is None else np.concatenate([rows, places + start], axis=1)
            order = np.lexsort((rows, -scores), axis=1)[:, :k]
            scores, rows = np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
            start += len(vectors)
        assert scores is not None
        assert rows is not None
        return scores, rows


def encode_in_shards(
    model: SentenceTransformer,
    corpus: Mapping[str, str],
    folder: Path | str,
    *,
    rows: int = 65_536,
    batch_tokens: int | None = None,
) -> Shards:
    """Encode a corpus into a folder, a shard at a time; what is there is not encoded again.

    Killed at any moment, the next call goes on with the first shard that is not whole.

    Parameters
    ----------
    model : SentenceTransformer
    corpus : mapping of id to text
        A lazy mapping will do: texts are asked for in order, a shard at a time.
    folder : Path
    rows : int
        Documents a shard.
    batch_tokens : int, optional
        See `encode`.

    Raises
    ------
    DataError
        The folder holds vectors of another model, of another corpus, or in other shards; or it cannot be written
        (a full disk, say): then nothing half-written is left.
    EvaluationError
        As `encode`.
    """
    folder = Path(folder)
    if rows < 1:
        raise EvaluationError(f"rows of a shard must be at least 1, got {rows}")
    ids = list(corpus)
    manifest = {"model": model_fingerprint(model, "document"), "corpus": _corpus_hash(corpus), "rows": rows}
    path = folder / _MANIFEST
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            _check_same(path, manifest)
        else:
            write_json(path, manifest)
        sizes, dimension = [], 0
        left = iter(corpus.values())
        for number, start in enumerate(range(0, len(ids), rows)):
            texts = list(islice(left, rows))
            shard = _shard(folder, number)
            if not shard.is_file():
                _write_array(shard, encode(model, texts, "document", batch_tokens=batch_tokens))
            there = np.load(shard, mmap_mode="r", allow_pickle=False)
            if there.ndim != 2 or len(there) != min(rows, len(ids) - start):
                raise DataError(f"{shard}: of shape {there.shape}, expected {len(texts)} rows; delete it to repeat it")
            sizes.append(len(there))
            dimension = there.shape[1]
    except (OSError, ValueError) as error:
        if isinstance(error, (DataError, EvaluationError)):
            raise
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{folder}: {reason}; finished shards are kept, the same call goes on") from error
    if not sizes:
        raise EvaluationError("there is no document to encode")
    return Shards(folder, ids, tuple(sizes), dimension)


def _check_same(path: Path, manifest: Mapping[str, Any]) -> None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not readable ({error}); delete the folder to encode anew") from error
    for key, what in (("model", "another model"), ("corpus", "another corpus"), ("rows", "shards of another size")):
        if not isinstance(found, dict) or found.get(key) != manifest[key]:
            raise DataError(f"{path}: these are vectors of {what}; use another folder")


def _corpus_hash(corpus: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name, text in corpus.items():
        for part in (name, text):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.npy"


def _ids_of(path: Path) -> Path:
    return path.with_suffix(".ids.txt")


def _write_array(path: Path, matrix: Floats) -> None:
    buffer = io.BytesIO()
    np.save(buffer, matrix, allow_pickle=False)
    write_bytes(path, buffer.getvalue())

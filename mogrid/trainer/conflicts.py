"""Which rows of a dataset must not share a batch: those of which one's document is relevant to the other's query."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import DataError

__all__ = ["STEERING", "Conflicts"]

STEERING = ("document_ids", "relevant_ids", "group")
"""Columns that steer sampling and are no model input."""

Ints = NDArray[np.int64]


class Ragged(NamedTuple):
    """Lists of ids, one a row: (row, id) entries."""

    rows: Ints
    ids: Ints


class Conflicts:
    """The conflicts between rows, by what their queries hold relevant.

    A row has documents (its own, and its hard negatives), and documents that are relevant to its query. Rows i and j
    exclude each other where a document of one is relevant to the query of the other: it would be trained on as a
    negative. Rows with the same relevant documents are of one class. So row i is against the classes that hold one of
    its documents relevant, and i and j exclude each other where i is against j's class, or j against i's.

    Attributes
    ----------
    classes : ndarray, shape (N,)
        Class of each row, numbered from 0.
    against : list of N tuple of int
        Classes that each row is against; `rows` and `opposed` hold the same as (row, class) entries, sorted by row.
    degrees : ndarray, shape (N,)
        With how many rows each is in conflict; a pair that is in conflict for two reasons may count twice.
    """

    def __init__(self, count: int, documents: Ragged, relevant: Ragged) -> None:
        self.classes = _classes(count, relevant)
        kinds = int(self.classes.max(initial=-1)) + 1
        # (document, class) pairs, sorted by document: who holds it relevant
        held, holder = _distinct(relevant.ids, self.classes[relevant.rows], kinds)
        first, last = np.searchsorted(held, documents.ids, "left"), np.searchsorted(held, documents.ids, "right")
        many = last - first
        at = np.repeat(first - (np.cumsum(many) - many), many) + np.arange(many.sum())
        self.rows, self.opposed = _distinct(np.repeat(documents.rows, many), holder[at], kinds)
        flat, ends = self.opposed.tolist(), np.searchsorted(self.rows, np.arange(count + 1)).tolist()
        self.against = [tuple(flat[ends[i] : ends[i + 1]]) for i in range(count)]
        sizes = np.bincount(self.classes, minlength=kinds)
        itself = np.bincount(self.rows, weights=self.classes[self.rows] == self.opposed, minlength=count)
        mine = np.bincount(self.rows, weights=sizes[self.opposed], minlength=count) - itself
        theirs = np.bincount(self.opposed, minlength=kinds)[self.classes] - itself
        self.degrees: Ints = (mine + theirs).astype(np.int64)

    def __len__(self) -> int:
        return len(self.classes)

    @classmethod
    def none(cls, count: int) -> Conflicts:
        """Return those of rows that are all strangers to each other."""
        nothing = Ragged(np.empty(0, np.int64), np.empty(0, np.int64))
        return cls(count, nothing, nothing)

    @classmethod
    def of(cls, dataset: Any, name: str = "") -> Conflicts | None:
        """Return the conflicts that a dataset's steering columns tell of; None where it has none of them.

        Parameters
        ----------
        dataset : datasets.Dataset
            ``document_ids``: of the row's document and hard negatives, ``relevant_ids``: of all documents relevant to
            its query; an id or a list of ids each. Without relevant ids a row holds its own documents relevant, and
            the other way round. ``group``: rows of one group exclude each other, too. All may be numbers or texts.
        name : str
            For messages.

        Raises
        ------
        DataError
            A value is missing.
        """
        columns = [column for column in STEERING if column in dataset.column_names]
        if not columns:
            return None
        import pyarrow as pa

        table: pa.Table = dataset.select_columns(columns).with_format("arrow")[:]
        found = {column: _entries(table[column], f"dataset {name!r}: column {column!r}") for column in columns}
        lists = [found[column] for column in ("document_ids", "relevant_ids") if column in found]
        ids = Ragged(np.empty(0, np.int64), np.empty(0, np.int64))
        documents = relevant = ids
        if lists:
            try:
                values = pa.chunked_array([values for _, values in lists])
            except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
                raise DataError(f"dataset {name!r}: document_ids and relevant_ids are of two types ({error})") from None
            codes = _codes(values)
            cut = len(lists[0][1])
            documents = Ragged(lists[0][0], codes[:cut])
            relevant = Ragged(lists[1][0], codes[cut:]) if len(lists) == 2 else documents
        if "group" in found:  # as a document of its own that all its rows have and hold relevant
            rows, values = found["group"]
            taken = max(documents.ids.max(initial=-1), relevant.ids.max(initial=-1)) + 1
            groups = _codes(pa.chunked_array([values])) + taken
            documents, relevant = (
                Ragged(np.concatenate([part.rows, rows]), np.concatenate([part.ids, groups]))
                for part in (documents, relevant)
            )
        return cls(len(table), documents, relevant)


def _entries(column: Any, where: str) -> tuple[Ints, Any]:
    """Return the row numbers and values of a column of values or of lists of values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    if values.null_count:
        raise DataError(f"{where}: row {int(np.flatnonzero(values.is_null())[0])} has no value")
    rows = np.arange(len(values))
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        rows = np.repeat(rows, pc.list_value_length(values).to_numpy(zero_copy_only=False))
        values = values.flatten()
        if values.null_count:
            raise DataError(f"{where}: row {rows[np.flatnonzero(values.is_null())[0]]} holds an id that is missing")
    return rows, values


def _codes(values: Any) -> Ints:
    """Return numbers that are equal where the values are."""
    codes: Ints = values.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _distinct(major: Ints, minor: Ints, minors: int) -> tuple[Ints, Ints]:
    """Return the distinct (major, minor) pairs, sorted; `minors` is above every minor."""
    keys = np.unique(major * minors + minor)  # far faster than unique rows of two columns
    return keys // max(minors, 1), keys % max(minors, 1)


def _classes(count: int, relevant: Ragged) -> Ints:
    """Return one number for each distinct list of relevant documents, whatever its order; (N,)."""
    rows, ids = _distinct(relevant.rows, relevant.ids, int(relevant.ids.max(initial=-1)) + 1)
    ends = np.searchsorted(rows, np.arange(count + 1)).tolist()
    number: dict[bytes, int] = {}
    data = ids.tobytes()
    return np.array(
        [number.setdefault(data[8 * ends[i] : 8 * ends[i + 1]], len(number)) for i in range(count)], dtype=np.int64
    )

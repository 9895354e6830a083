"""Readers by name: what ``kind:`` in a file of domains says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mogrid.data.beir import beir_splits, read_beir
from mogrid.data.domain import Domain, Role
from mogrid.data.dpr import dpr_splits, read_dpr
from mogrid.data.msmarco import msmarco_splits, read_msmarco
from mogrid.data.rows import pairs_splits, read_ir_datasets, read_pairs, read_saved_dataset, saved_splits

__all__ = ["READERS", "Reader"]


@dataclass(frozen=True)
class Reader:
    """How one kind of data set is read.

    Attributes
    ----------
    read : callable of (folder, {role: split})
    splits : callable of a folder
        Names of the splits there.
    local : bool
        Whether its name is that of a folder.
    """

    read: Callable[[Path | str, Mapping[Role, str]], Domain]
    splits: Callable[[Path], list[str]]
    local: bool = True


READERS: dict[str, Reader] = {
    "beir": Reader(read_beir, beir_splits),
    "dpr": Reader(read_dpr, dpr_splits),
    "msmarco": Reader(read_msmarco, msmarco_splits),
    "pairs": Reader(read_pairs, pairs_splits),
    "huggingface": Reader(read_saved_dataset, saved_splits),
    "ir_datasets": Reader(read_ir_datasets, lambda folder: [], local=False),
}

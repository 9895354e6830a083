"""Retrieval data: domains with roles, readers, training pairs, leaks, batches without false negatives."""

from mogrid.data.beir import read_beir
from mogrid.data.collections import read_collection
from mogrid.data.domain import Collection, Domain, Role, Split
from mogrid.data.dpr import read_dpr
from mogrid.data.embedded import embedded_collection
from mogrid.data.leaks import LeakReport, leak_report, near_duplicates
from mogrid.data.msmarco import read_msmarco
from mogrid.data.pairs import training_pairs
from mogrid.data.readers import READERS
from mogrid.data.rows import domain_from_dataset, read_ir_datasets, read_pairs, read_saved_dataset

__all__ = [
    "READERS",
    "Collection",
    "Domain",
    "LeakReport",
    "Role",
    "Split",
    "domain_from_dataset",
    "embedded_collection",
    "leak_report",
    "near_duplicates",
    "read_beir",
    "read_collection",
    "read_dpr",
    "read_ir_datasets",
    "read_msmarco",
    "read_pairs",
    "read_saved_dataset",
    "training_pairs",
]

"""Retrieval data: domains with roles, readers, training pairs, leaks, batches without false negatives."""

from mogrid.data.collections import read_collection, read_single
from mogrid.data.domain import NO_SOURCE, Collection, Domain, Role, Split
from mogrid.data.embedded import embedded_collection
from mogrid.data.leaks import LeakReport, leak_report, near_duplicates
from mogrid.data.pairs import training_pairs
from mogrid.data.readers import READERS, read_beir, read_domain, read_dpr, read_msmarco
from mogrid.data.records import Columns
from mogrid.data.rows import domain_from_dataset

__all__ = [
    "NO_SOURCE",
    "READERS",
    "Collection",
    "Columns",
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
    "read_domain",
    "read_dpr",
    "read_msmarco",
    "read_single",
    "training_pairs",
]

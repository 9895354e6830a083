"""Retrieval data: domains with roles, readers, training pairs, batches without false negatives."""

from mogrid.data.beir import read_beir
from mogrid.data.collections import read_collection
from mogrid.data.domain import Collection, Domain, Role, Split
from mogrid.data.embedded import embedded_collection
from mogrid.data.pairs import training_pairs

__all__ = [
    "Collection",
    "Domain",
    "Role",
    "Split",
    "embedded_collection",
    "read_beir",
    "read_collection",
    "training_pairs",
]

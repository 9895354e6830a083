"""Scaling: what a run costs (the FLOP ledger)."""

from mogrid.scaling.ledger import FlopLedger, crafting, encoders, non_embedding_parameters

__all__ = ["FlopLedger", "crafting", "encoders", "non_embedding_parameters"]

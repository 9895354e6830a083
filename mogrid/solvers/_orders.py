"""Random orders of the objectives, for methods that change one gradient after the other."""

from __future__ import annotations

import torch

__all__ = ["orders"]


def orders(count: int, generator: torch.Generator) -> list[list[int]]:
    """One random order of the objectives for each of them."""
    drawn: list[list[int]] = torch.rand(count, count, generator=generator).argsort(dim=1).tolist()
    return drawn

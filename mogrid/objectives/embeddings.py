"""Perturbations of a retriever's word embeddings, text by text, relative to their size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mogrid.flops import encoders

__all__ = ["keeping", "project", "scaled", "shifted"]


@contextmanager
def keeping(model: nn.Module, *, gradients: bool = False) -> Iterator[list[Tensor]]:
    """Collect the word embeddings (B, S, H) of every forward, in order; with gradients also where they are frozen."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        frozen = gradients and not output.requires_grad
        seen.append(output.detach().requires_grad_() if frozen else output)
        return seen[-1]

    with _hooked(model, keep):
        yield seen


@contextmanager
def shifted(model: nn.Module, shifts: Sequence[Tensor]) -> Iterator[None]:
    """Add to the word embeddings of the forwards that follow, one shift each, in order."""
    left = iter(shifts)
    with _hooked(model, lambda module, args, output: output + next(left)):
        yield


def _hooked(model: nn.Module, hook: Callable[[nn.Module, Any, Tensor], Tensor | None]) -> ExitStack:
    stack = ExitStack()
    for encoder in encoders(model):
        handle = encoder.get_input_embeddings().register_forward_hook(hook)  # type: ignore[operator]
        stack.callback(handle.remove)
    return stack


def scaled(direction: Tensor, embeddings: Tensor, epsilon: float) -> Tensor:
    """Return ε·‖E‖·d/‖d‖ for each text; zero where d is."""
    size = embeddings.detach().flatten(1).norm(dim=1)
    norm = direction.flatten(1).norm(dim=1).clamp_min(torch.finfo(direction.dtype).tiny)
    return direction * (epsilon * size / norm)[:, None, None]


def project(shift: Tensor, embeddings: Tensor, epsilon: float) -> Tensor:
    """Return each text's shift, shortened to ε·‖E‖ where it is longer."""
    radius = epsilon * embeddings.detach().flatten(1).norm(dim=1)
    norm = shift.flatten(1).norm(dim=1)
    return shift * (radius / norm.clamp_min(torch.finfo(shift.dtype).tiny)).clamp(max=1.0)[:, None, None]

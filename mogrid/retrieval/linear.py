"""Matrix products of encoders by oneDNN, on processors where it is the faster library.

Torch hands products of float32 to MKL, which knows the wide registers (AVX-512) of one maker's processors alone; on
others oneDNN, which torch has on board for lower precisions and compiled models, is up to twice as fast - or level,
where the processor does such products in halves (Zen 4). Results differ as rounding does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["fast_products"]


@cache
def _product() -> Any:
    """Return oneDNN's x Wᵀ + b; None where there is none, or no AVX-512."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.is_available():
        return None
    found = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if found is None:
        return None
    x, weight, bias = (torch.linspace(-1, 1, n) for n in (40, 24, 3))  # the generators are left as they were
    x, weight = x.view(5, 8), weight.view(3, 8)
    try:  # it is torch's own, for what it compiles, and may change
        same = torch.allclose(found(x, weight, bias, "none", [], ""), torch.addmm(bias, x, weight.t()), atol=1e-5)
    except (RuntimeError, TypeError):
        return None
    return found if same else None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        found: Tensor = _product()(x, weight, bias, "none", [], "")
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _product()(gradient, weight.t(), None, "none", [], "")
        if ctx.needs_input_grad[1]:
            of_weight = _product()(rows.t(), x.reshape(-1, x.shape[-1]).t(), None, "none", [], "")
        if ctx.biased and ctx.needs_input_grad[2]:
            of_bias = rows.sum(dim=0)
        return of_x, of_weight, of_bias


class _Forward:
    """A linear layer's ``forward``."""

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias = self.layer.weight, self.layer.bias
        plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and x.numel() > 0
        if not plain or type(weight.data) is not Tensor or torch.is_autocast_enabled("cpu"):
            return nn.Linear.forward(self.layer, x)
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
            return nn.Linear.forward(self.layer, x)
        found: Tensor = _Linear.apply(x, weight, bias)
        return found


@contextmanager
def fast_products(model: nn.Module) -> Iterator[None]:
    """Let a model's linear layers multiply by the faster library for a while; where there is none, nothing changes.

    Gradients of gradients are not to be had meanwhile.
    """
    layers = [m for m in model.modules() if type(m) is nn.Linear and "forward" not in m.__dict__]
    chosen = layers if _product() is not None else []
    for layer in chosen:
        setattr(layer, "forward", _Forward(layer))  # noqa: B010 - methods of instances are no part of a module's type
    try:
        yield
    finally:
        for layer in chosen:
            delattr(layer, "forward")

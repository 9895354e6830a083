"""What stands in for the whole gradients when the Gramian is formed: a part of them, or a projection.

The combined gradient Σ w_k g_k is exact with every probe; only the weights follow from less.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from mogrid.errors import ConfigError
from mogrid.gradients.products import Gradients

__all__ = ["LastLayers", "Probe", "Representations", "Sketch", "last_layers"]


class Probe(Protocol):
    """A linear map of one objective's gradient (one tensor a parameter) to fewer numbers.

    Attributes
    ----------
    at : list of Tensor or None
        Where the probe's numbers are gradients at these tensors, they can be had with a backward that ends there.
    """

    at: list[Tensor] | None

    def __call__(self, row: Gradients) -> list[Tensor]: ...


class Sketch:
    """A seeded random projection to `size` numbers whose inner products are those of the gradients, in expectation.

    A count sketch (Charikar et al. 2002): coordinate i of the flattened gradient is added with a random sign to place
    i mod s. Every inner product ⟨a, b⟩ is unbiased, with a standard deviation of about √(‖a‖²‖b‖² + ⟨a, b⟩²) / √s.
    The projection is linear, so the sketch of a mean over ranks is the mean of the sketches: K × s floats of traffic
    where exact gradients send K × P. It costs a pass over each gradient and P bytes for the signs.

    Parameters
    ----------
    parameters : sequence of nn.Parameter
        What is trained, in the order in which gradients come.
    size : int
        s is the largest prime up to it: coprime to the widths of layers, or else a place would hold a column of a
        weight matrix alone, and few large columns would make the variance large.
    seed : int
        Decides signs: it must be equal on all ranks.
    """

    at: list[Tensor] | None = None

    def __init__(self, parameters: Sequence[nn.Parameter], size: int = 4096, seed: int = 0) -> None:
        if size < 2:
            raise ConfigError(f"gradients: size of a sketch must be at least 2, got {size}")
        self.size = next(s for s in range(size, 1, -1) if all(s % d for d in range(2, int(s**0.5) + 1)))
        generator = torch.Generator().manual_seed(seed)
        self._parameters = list(parameters)
        self._signs: list[Tensor] = []
        self._offsets: list[int] = []
        offset = 0
        for p in self._parameters:
            signs = torch.randint(2, (p.numel(),), generator=generator, dtype=torch.int8).mul_(2).sub_(1)
            self._signs.append(signs.to(p.device))
            self._offsets.append(offset)
            offset = (offset + p.numel()) % self.size

    def __call__(self, row: Gradients) -> list[Tensor]:
        device = self._parameters[0].device
        total = torch.zeros(self.size, dtype=torch.float64, device=device)
        for g, signs, offset in zip(row, self._signs, self._offsets, strict=True):
            if g is None:
                continue
            values = (g.to_dense() if g.is_sparse else g).flatten() * signs
            first = min(self.size - offset, len(values))
            total[offset : offset + first] += values[:first]
            whole = (len(values) - first) // self.size * self.size
            total += values[first : first + whole].view(-1, self.size).sum(dim=0, dtype=torch.float64).to(device)
            rest = values[first + whole :]
            total[: len(rest)] += rest
        return [total]


class LastLayers:
    """The gradients of some parameters in place of all.

    Parameters
    ----------
    parameters : sequence of nn.Parameter
        What is trained, in the order in which gradients come.
    chosen : iterable of nn.Parameter
        Whose gradients are looked at; `last_layers` finds some.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], chosen: Iterable[nn.Parameter]) -> None:
        wanted = {id(p) for p in chosen}
        self._places = [i for i, p in enumerate(parameters) if id(p) in wanted]
        self.at: list[Tensor] | None = [parameters[i] for i in self._places]
        if not self.at:
            raise ConfigError("gradients: none of the chosen layers is trained")

    def __call__(self, row: Gradients) -> list[Tensor]:
        assert self.at is not None
        pairs = zip((row[i] for i in self._places), self.at, strict=True)
        return [torch.zeros_like(p) if g is None else g for g, p in pairs]


class Representations:
    """The gradients at intermediate tensors that all losses are functions of (MGDA-UB, Sener & Koltun 2018).

    G at the representation bounds that of the parameters from above, up to the Jacobian between them. For one step:
    the tensors belong to one graph.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.at: list[Tensor] | None = list(tensors)
        if not self.at or not all(tensor.requires_grad for tensor in self.at):
            raise ConfigError("representations: expected tensors that the losses' graph goes through")

    def __call__(self, row: Gradients) -> list[Tensor]:
        raise ConfigError("representations: the losses of a step must come in one call")


def last_layers(model: nn.Module, layers: int) -> list[nn.Parameter]:
    """Return the parameters of the last layers of every encoder in a model, and of what follows the last encoder.

    Raises
    ------
    ConfigError
        The model has no stack of layers (``nn.ModuleList``), or a shorter one.
    """
    if layers < 1:
        raise ConfigError(f"gradients: layers must be at least 1, got {layers}")
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(list(m.parameters())) > 0]
    inner = {id(m) for outer in lists for m in outer.modules() if m is not outer}
    stacks = [stack for stack in lists if id(stack) not in inner]
    if not stacks:
        raise ConfigError("gradients: last_layers needs a model with a stack of layers (nn.ModuleList)")
    for stack in stacks:
        if len(stack) < layers:
            raise ConfigError(f"gradients: layers is {layers}, an encoder has {len(stack)}")
    chosen = [p for stack in stacks for layer in list(stack)[-layers:] for p in layer.parameters()]
    ordered = list(model.parameters())
    last = {id(p) for p in stacks[-1].parameters()}
    end = max(i for i, p in enumerate(ordered) if id(p) in last)
    return chosen + ordered[end + 1 :]

"""Gradients over several processes: averages in one message each, and inner products of sharded gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mogrid.errors import ConfigError
from mogrid.gradients.products import Gradients, gramian

__all__ = ["Shards", "average", "averaged"]


def average(tensors: Sequence[Tensor]) -> None:
    """Average tensors in place over the ranks of the default process group, in one message."""
    if not tensors:
        return
    bucket = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(bucket)
    bucket /= dist.get_world_size()
    for tensor, part in zip(tensors, bucket.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def averaged(gradients: Gradients, parameters: Sequence[nn.Parameter]) -> Gradients:
    """Return the average over ranks, in one message; a parameter unused on one rank only counts as zero there."""
    dense = [
        torch.zeros_like(p) if g is None else g.to_dense() if g.is_sparse else g
        for p, g in zip(parameters, gradients, strict=True)
    ]
    bucket = torch.cat([g.flatten() for g in dense])
    dist.all_reduce(bucket)
    bucket /= dist.get_world_size()
    parts = bucket.split([g.numel() for g in dense])
    return [part.view_as(g) for part, g in zip(parts, dense, strict=True)]


class Shards:
    """The process group over which parameters are sharded, if they are (``fully_shard``, FSDP2).

    There every backward leaves each rank its shard of the averaged gradient, so the exact Gramian is the sum over
    ranks of the Gramians of the shards: K × K floats of traffic.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        What is trained: all of it sharded, or nothing.

    Raises
    ------
    ConfigError
        Some parameters are sharded and others not, or over a mesh of more than one dimension.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        meshes = [getattr(p, "device_mesh", None) for p in parameters]
        self.group: dist.ProcessGroup | None = None
        sharded = [mesh for mesh in meshes if mesh is not None]
        if not sharded:
            return
        if len(sharded) < len(meshes) or sharded[0].ndim != 1 or any(mesh != sharded[0] for mesh in sharded):
            raise ConfigError(
                "parameters: all of them must be sharded over one mesh of one dimension, or none; "
                "hybrid sharding and replicated parameters beside sharded ones are not supported"
            )
        self.group = sharded[0].get_group()

    def __bool__(self) -> bool:
        return self.group is not None

    def gramian(self, rows: Sequence[Gradients]) -> Tensor:
        """Return G (K, K) of the whole gradients from every rank's shards of them."""
        local = [[_local(g) for g in row] for row in rows]
        device = next((g.device for row in local for g in row if g is not None), torch.device("cpu"))
        products = gramian(local).to(device)
        dist.all_reduce(products, group=self.group)
        return products.cpu()


def _local(gradient: Any) -> Tensor | None:
    return None if gradient is None else gradient.to_local()

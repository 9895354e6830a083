"""Two and four gloo processes: every rank gets the gradient of one process on the union, for the stated traffic."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn

from mogrid.errors import ConfigError
from mogrid.gradients import GradientEngine, make_engine
from mogrid.gradients.distributed import Shards
from mogrid.solvers import MGDA, FixedWeights
from tests.gradients.references import NAMES, batches, calls, encoder, flat
from tests.processes import on_ranks

SIZE = 64
MODES = {
    "exact": "exact",
    "last_layers": {"mode": "last_layers", "layers": 1},
    "sketch": {"mode": "sketch", "size": SIZE},
}


def step(mode, given, world, solver=None, parts=1):
    """One step; returns weights, losses, the gradient, and the number of floats that were sent."""
    model = encoder()
    trained = list(model.parameters())
    outer = nn.parallel.DistributedDataParallel(model) if world > 1 else model
    engine = make_engine(MODES[mode], model, trained, NAMES, solver or MGDA(normalise="l2"), reduce=world > 1)
    sent, all_reduce = [], dist.all_reduce

    def counting(tensor, *args, **kwargs):
        sent.append(tensor.numel())
        return all_reduce(tensor, *args, **kwargs)

    dist.all_reduce = counting
    try:
        for i in range(parts):
            rows = [ids.chunk(parts)[i] for ids in given]
            if world > 1:
                with outer.no_sync():
                    report = engine.accumulate(calls(outer, rows), final=i == parts - 1, divisor=parts)
            else:
                report = engine.accumulate(calls(model, rows), final=i == parts - 1, divisor=parts)
    finally:
        dist.all_reduce = all_reduce
    values = torch.tensor([*report.weights.values(), *report.losses.values()], dtype=torch.float64)
    return torch.cat([values, flat(trained), torch.tensor([sum(sent)], dtype=torch.float64)])


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("mode", list(MODES))
def test_ranks_equal_one_process_on_the_union(mode, world, parts) -> None:
    given = batches(rows=8)
    # rank r's micro-batch i are the rows that are the r-th part of the i-th part of the union
    shares = [[torch.cat([p.chunk(world)[r] for p in ids.chunk(parts)]) for ids in given] for r in range(world)]
    alone = step(mode, given, 1, parts=parts)
    ranks = on_ranks(world, lambda rank: step(mode, shares[rank], world, parts=parts))
    assert all(torch.equal(ranks[0], rank) for rank in ranks)
    torch.testing.assert_close(ranks[0][:-1], alone[:-1], rtol=1e-4, atol=1e-6)
    size = sum(p.numel() for p in encoder().parameters())
    floats = int(ranks[0][-1])
    if mode == "exact":
        assert floats == 3 * size + 3
    elif mode == "sketch":
        assert floats == size + 3 * 61 + 3  # 61: the largest prime up to 64
    else:
        assert size < floats < 2.6 * size


def test_fixed_weights_send_one_gradient() -> None:
    given = batches()
    shares = [[ids.chunk(2)[r] for ids in given] for r in range(2)]

    def task(rank):
        model = encoder()
        engine = GradientEngine(model.parameters(), NAMES, FixedWeights(), gradient_statistics=False, reduce=True)
        engine.accumulate(calls(model, shares[rank]))
        return flat(list(model.parameters()))

    alone = encoder()
    GradientEngine(alone.parameters(), NAMES, FixedWeights(), gradient_statistics=False).accumulate(calls(alone, given))
    first, second = on_ranks(2, task)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, flat(list(alone.parameters())), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("world", [2, 4])
def test_fully_sharded_parameters(world) -> None:
    """FSDP2: K × K floats beside its own traffic; shards put together are the gradient of one process."""
    given = batches(rows=8)
    shares = [[ids.chunk(world)[r] for ids in given] for r in range(world)]

    def task(rank):
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        model = encoder()
        mesh = init_device_mesh("cpu", (world,))
        for layer in model.bert.encoder.layer:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_force_sum_reduction_for_comms(True)  # an older gloo sums where it should average
        trained = list(model.parameters())
        engine = GradientEngine(trained, NAMES, MGDA(normalise="l2"), reduce=True)
        assert engine.shards
        assert not engine.reduce
        report = None
        for i in range(2):
            report = engine.accumulate(calls(model, [ids.chunk(2)[i] for ids in shares[rank]]), final=i == 1, divisor=2)
        whole = torch.cat([p.grad.full_tensor().flatten().double() for p in trained])
        values = [*report.weights.values(), *report.losses.values()]
        return torch.cat([torch.tensor(values, dtype=torch.float64), whole])

    alone = step("exact", given, 1)
    ranks = on_ranks(world, task)
    assert all(torch.equal(ranks[0], rank) for rank in ranks)
    torch.testing.assert_close(ranks[0], alone[:-1], rtol=1e-4, atol=1e-6)


def test_partly_sharded_parameters_are_refused() -> None:
    class Sharded(nn.Parameter):
        device_mesh = object()

    with pytest.raises(ConfigError, match="all of them must be sharded"):
        Shards([Sharded(torch.zeros(1)), nn.Parameter(torch.zeros(1))])

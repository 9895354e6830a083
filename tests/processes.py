"""A task on several gloo processes of this machine."""

from __future__ import annotations

import multiprocessing
import tempfile
import traceback

import torch
import torch.distributed as dist


def in_process(rank, world, store, task, results, init) -> None:
    torch.set_num_threads(1)
    try:
        if init:
            dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
        results.put((rank, task(rank).numpy()))
        if dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()
    except BaseException:
        results.put((rank, traceback.format_exc()))
        raise


def on_ranks(world, task, *, init=True):
    """Run ``task(rank)`` in forked gloo processes; return the tensors in the order of ranks.

    Without ``init`` the process group is the task's to make.
    """
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=in_process, args=(rank, world, f"{folder}/store", task, results, init))
            for rank in range(world)
        ]
        for process in processes:
            process.start()
        found = dict(results.get() for _ in processes)
        for process in processes:
            process.join(60)
    assert not [error for error in found.values() if isinstance(error, str)], "\n".join(map(str, found.values()))
    return [torch.from_numpy(found[rank]) for rank in range(world)]

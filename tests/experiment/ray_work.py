"""Work for pools of workers: what a test in another process can import by name."""

from __future__ import annotations

import os
import signal
import time

import torch

from mogrid.errors import Busy, DataError
from mogrid.files import held


def work(cell, progress, stop) -> None:
    kind, file = cell
    if kind == "bits":
        torch.manual_seed(int(file.name))
        values = torch.randn(300, 300)
        file.write_text(
            f"{torch.get_num_threads()} {os.environ['OMP_NUM_THREADS']} {(values @ values).sum().item().hex()}"
        )
    elif kind == "fail":
        raise DataError(f"bad {file.name}")
    elif kind == "fault":
        raise RuntimeError("line 1\nline 2")
    elif kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "die once":
        with file.open("a") as log:  # the checkpoint
            log.write("x")
        if len(file.read_text()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "wait":
        file.write_text(str(os.getpid()))
        for step in range(600):
            progress(step / 600)
            if stop():
                file.write_text("stopped")
                from mogrid.experiment.training import Interrupted  # takes seconds

                raise Interrupted
            time.sleep(0.05)
    elif kind == "slow":
        for step in range(8):
            progress(step / 8)
            time.sleep(0.3)
    elif kind == "claim":
        with held(file.with_suffix(".lock")):
            file.write_text("mine")
    else:
        raise Busy

"""What is killed, wherever, ends in the same model, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("module", "kills"), [("tests.training.kills", 12), ("tests.tune.kills", 3)])
def test_what_is_killed_ends_with_the_same_bits(module, kills, tmp_path) -> None:
    """A few of the kills of ``make kills``."""
    command = [sys.executable, "-m", module, str(tmp_path), str(kills)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.stdout, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["failures"] == []
    assert done.returncode == 0
    assert found["kills"] >= kills

"""A tune that is killed, wherever, ends in the same model, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_killed_tunes_end_with_the_same_bits(tmp_path) -> None:
    """Four of the twenty kills of ``make kills``."""
    command = [sys.executable, "-m", "tests.tune.kills", str(tmp_path), "4"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.stdout, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["failures"] == []
    assert done.returncode == 0
    assert found["kills"] >= 4

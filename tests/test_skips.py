"""In CI a test that skips itself fails the run, unless its reason is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest
def test_one(): pytest.skip("no moon here")
def test_two(): assert True
"""


@pytest.mark.parametrize(
    ("module", "named", "code"),
    [
        (TESTS, None, 0),
        (TESTS, "", 1),
        (TESTS, "no sun here; no moon here", 0),
        ('import pytest; pytest.importorskip("no_such_module")\n' + TESTS, "no moon here", 1),
    ],
    ids=["anywhere", "unnamed", "named", "a module"],
)
def test_a_skip_is_named_or_fails(tmp_path: Path, module: str, named: str | None, code: int) -> None:
    (tmp_path / "test_some.py").write_text(module)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = {key: value for key, value in os.environ.items() if key != "MOGRID_SKIPS"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment |= {} if named is None else {"MOGRID_SKIPS": named}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.skips", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout
    assert ("does not name why" in done.stdout) is (code == 1)

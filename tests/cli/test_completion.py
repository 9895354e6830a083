"""The completion script completes, in a real bash."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mogrid.cli import COMMANDS, main

BASH = shutil.which("bash")


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["completion", "bash"]) == 0
    path = tmp_path_factory.mktemp("completion") / "mogrid"
    path.write_text(out.getvalue())
    return path


def completed(script: Path, *words: str) -> list[str]:
    """Return what bash offers for the last word."""
    line = " ".join(f"'{word}'" for word in words)
    asked = f"""
        source {script}
        COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMP_LINE="{" ".join(words)}"; COMP_POINT=${{#COMP_LINE}}
        complete -p mogrid >/dev/null && "$(complete -p mogrid | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run([str(BASH), "-c", asked], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(BASH is None, reason="no bash here")
def test_commands_and_options(script) -> None:
    assert completed(script, "mogrid", "pl") == ["plan"]
    assert set(COMMANDS) <= set(completed(script, "mogrid", ""))
    assert completed(script, "mogrid", "plan", "--bu") == ["--budget"]
    assert "--print-config" in completed(script, "mogrid", "train", "--p")


def test_other_shells(capsys) -> None:
    assert main(["completion", "zsh"]) == 0
    assert capsys.readouterr().out.startswith("#compdef mogrid")
    assert main(["completion", "fsh"]) == 2

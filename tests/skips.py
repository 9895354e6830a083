"""A plugin of pytest: where ``MOGRID_SKIPS`` is set, a test may skip itself for a reason named there, and no other."""

from __future__ import annotations

import os

import pytest

KEY = pytest.StashKey[list[str]]()


def unnamed(config: pytest.Config) -> list[str]:
    """Return where and why tests were skipped, less the reasons in ``MOGRID_SKIPS``, which semicolons separate."""
    named = os.environ.get("MOGRID_SKIPS")
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if named is None or reporter is None:
        return []
    reasons = {reason.strip() for reason in named.split(";")}
    skipped = [report.longrepr for report in reporter.stats.get("skipped", ()) if isinstance(report.longrepr, tuple)]
    said = [(f"{path}:{line}", reason.removeprefix("Skipped: ")) for path, line, reason in skipped]
    return [f"{place}: {reason}" for place, reason in said if reason not in reasons]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    found = session.config.stash[KEY] = unnamed(session.config)
    if found and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(KEY, []):
        terminalreporter.write_line(f"skipped, and MOGRID_SKIPS does not name why: {line}", red=True)

"""The proof, kept with the runs, of how much of what is measured was nearly trained on."""

from __future__ import annotations

import json
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from mogrid.data import Collection, LeakReport, leak_report
from mogrid.files import cache_folder, write_json

__all__ = ["kept_leaks"]


def kept_leaks(collection: Collection, store: Path) -> LeakReport:
    """Return the store's report on this data, ``leaks-FINGERPRINT.json``; made once for all stores of a user."""
    name = f"leaks-{collection.fingerprint[:12]}.json"
    kept = cache_folder() / f"{version('mogrid')}-{name}"  # what counts as near may change
    report = _read(store / name) or _read(kept)
    if report is None:
        report = leak_report(collection)
        with suppress(OSError):  # where nothing can be kept it is made again
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, report.to_json())
    if not (store / name).is_file():
        write_json(store / name, report.to_json())
    return report


def _read(path: Path) -> LeakReport | None:
    """Return a report; None where there is none, or it was cut short or is of another format."""
    try:
        value = json.loads(path.read_text("utf-8"))
        counts = {key: (int(found), int(total)) for key, (found, total) in value["counts"].items()}
        examples = {key: [(a, b, s) for a, b, s in rows] for key, rows in value["examples"].items()}
        return LeakReport(float(value["threshold"]), counts, examples)
    except (OSError, ValueError, KeyError, TypeError):
        return None

"""The proof, kept with the runs, of how much of what is measured was nearly trained on."""

from __future__ import annotations

import json
from pathlib import Path

from mogrid.data import Collection, LeakReport, leak_report
from mogrid.files import write_json

__all__ = ["kept_leaks"]


def kept_leaks(collection: Collection, store: Path) -> LeakReport:
    """Return the store's report on this data, made once: ``leaks-FINGERPRINT.json``."""
    path = store / f"leaks-{collection.fingerprint[:12]}.json"
    if path.is_file():
        try:
            value = json.loads(path.read_text("utf-8"))
            counts = {key: (int(found), int(total)) for key, (found, total) in value["counts"].items()}
            examples = {key: [(a, b, s) for a, b, s in rows] for key, rows in value["examples"].items()}
            return LeakReport(float(value["threshold"]), counts, examples)
        except (ValueError, KeyError, TypeError):
            pass  # cut short or of another format: made anew
    report = leak_report(collection)
    write_json(path, report.to_json())
    return report

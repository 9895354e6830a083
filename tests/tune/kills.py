"""Kill a tune at random points and start it again: ``python -m tests.tune.kills FOLDER KILLS``.

As `tests.training.kills`, whose tools it takes: half of the kills come at a random moment, half at a random operation
on files. Prints one JSON object.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

from mogrid.runs import RunStore
from tests.training.kills import finished, forked, kill_once
from tests.tune.tiny import BUDGET, write_recipe

_OPERATIONS = 1500  # on files, of a whole tune, about


def result(out: Path) -> dict[str, object]:
    """Return what must not depend on kills: weights, records and verdict without wall time."""
    outcome = json.loads((out / "tune.json").read_text())["outcome"]
    outcome["stages"] = [row[:3] for row in outcome["stages"]]
    records = {r.name: {k: v for k, v in r.to_json().items() if k != "seconds"} for r in RunStore(out)}
    return {
        "weights": (out / "model" / "model.safetensors").read_bytes(),
        "records": json.loads(json.dumps(records)),
        "outcome": outcome,
    }


def run(folder: Path, kills: int) -> dict[str, object]:
    from mogrid.cli import main

    recipe, log, rng = write_recipe(folder), folder / "log.txt", random.Random(0)

    def command(name: str) -> list[str]:
        return ["tune", str(recipe), "--budget", BUDGET, "--out", str(folder / name)]

    assert main(command("warm")) == 0  # what is imported and compiled at first use, once
    started = time.perf_counter()
    assert finished(forked(command("whole"), log)) == 0, log.read_text()
    seconds = time.perf_counter() - started
    whole = result(folder / "whole")
    assert result(folder / "warm") == whole
    failures, hits, number = [], 0, 0
    while hits < kills:  # a kill may come when all is done: that one does not count
        number += 1
        name = f"killed-{number}"
        hits += kill_once(command(name), log, rng, _OPERATIONS, seconds, timed=number % 2 == 0)
        code = finished(forked(command(name), log))
        if code != 0 or result(folder / name) != whole:
            failures.append({"kill": number, "code": code, "log": log.read_text()[-1500:]})
    return {"kills": hits, "seconds": seconds, "failures": failures}


if __name__ == "__main__":
    report = run(Path(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps(report))
    sys.exit(1 if report["failures"] else 0)

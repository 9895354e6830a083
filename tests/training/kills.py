"""Kill trainings at random points and start them again: ``python -m tests.training.kills FOLDER KILLS``.

Forks from one process that has imported everything, so that a start costs a fraction of a second. Half of the kills
come at a random moment, half at a random operation on files (an audit hook counts them), which is where a training is
most easily hurt; every fifth training is killed a second time on its way on. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.training.tiny import write_run

FILE_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "os.truncate"}


def touches_files(event: str, arguments: tuple[object, ...]) -> bool:
    if event == "open":
        return isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
    return event in FILE_EVENTS


def forked(command: list[str], log: Path, hook: Callable[[str, tuple[object, ...]], None] | None = None) -> int:
    """Run ``mogrid COMMAND`` in a child; return its process id."""
    from mogrid.cli import main

    child = os.fork()
    if child:
        return child
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        if hook is not None:
            sys.addaudithook(hook)
        os._exit(main(command))
    finally:
        os._exit(70)


def finished(child: int) -> int:
    """Return a child's exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killing_after(operations: int) -> Callable[[str, tuple[object, ...]], None]:
    count = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if touches_files(event, arguments):
            count += 1
            if count == operations:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


def kill_once(command: list[str], log: Path, rng: random.Random, operations: int, seconds: float, timed: bool) -> bool:
    """Start the command and kill it at a random point; return whether it was still running then."""
    if not timed:
        return finished(forked(command, log, killing_after(rng.randint(1, operations)))) == -signal.SIGKILL
    child = forked(command, log)
    time.sleep(rng.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    return finished(child) == -signal.SIGKILL


def result(out: Path) -> dict[str, object]:
    """Return what must not depend on kills: weights, every step, the record without wall time."""
    record = json.loads((out / "run.json").read_text())
    kept = {key: value for key, value in record.items() if key not in ("seconds", "recipe")}
    return {
        "weights": (out / "model" / "model.safetensors").read_bytes(),
        "steps": (out / "steps.jsonl").read_text(),
        "record": kept,
    }


def run(folder: Path, kills: int) -> dict[str, object]:
    from mogrid.cli import main

    config, log, rng = write_run(folder), folder / "log.txt", random.Random(0)

    def command(name: str) -> list[str]:
        return ["train", str(config), "--set", f"output={name}"]

    counter = folder / "operations"

    def counting() -> Callable[[str, tuple[object, ...]], None]:
        count = 0

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            if touches_files(event, arguments) and "operations" not in str(arguments[0]):
                count += 1
                handle = os.open(counter, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.write(handle, str(count).encode())
                os.close(handle)

        return hook

    assert main(command("warm")) == 0  # what is imported and compiled at first use, once
    started = time.perf_counter()
    assert finished(forked(command("whole"), log)) == 0, log.read_text()
    seconds = time.perf_counter() - started
    assert finished(forked(command("counted"), log, counting())) == 0, log.read_text()
    whole, operations = result(folder / "whole"), int(counter.read_text())
    assert result(folder / "counted") == whole
    failures: list[dict[str, object]] = []
    hits = number = 0
    while hits < kills:  # a kill may come when all is done: that one does not count
        number += 1
        name = f"killed-{number}"
        for _ in range(2 if number % 5 == 0 else 1):
            hits += kill_once(command(name), log, rng, operations, seconds, timed=number % 2 == 0)
        code = finished(forked(command(name), log))
        if code != 0 or result(folder / name) != whole:
            failures.append({"kill": number, "code": code, "log": log.read_text()[-1500:]})
    return {"kills": hits, "trainings": number, "operations": operations, "seconds": seconds, "failures": failures}


if __name__ == "__main__":
    report = run(Path(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps(report))
    sys.exit(1 if report["failures"] else 0)

"""The main job: a dense retriever under several weighting strategies, their front, the choice, the chosen run.

    python -m benchmarks.dpr                                  # embedded data, two cores, under ten minutes
    python -m benchmarks.dpr --data DIR --domains FILE.yaml   # any BEIR folders
    python -m benchmarks.dpr --preset full                    # one GPU

Ctrl-C stops at a checkpoint; the same command continues. Exit codes: 0 done, 2 bad input, 3 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mogrid.config import YamlFile, override, read_yaml
from mogrid.errors import ConfigError, MogridError, nearest

if TYPE_CHECKING:
    from mogrid.experiment.settings import ExperimentSettings

PRESETS = Path(__file__).parent / "presets"

__all__ = ["main"]


def _parser(style: str, preset: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{style}",
        description="Train a dense retriever for effectiveness, OOD and adversarial robustness under several "
        "strategies at equal FLOPs; print the front, the chosen weights and the table.",
        epilog=f"example: python -m benchmarks.{style} --preference effectiveness=1,ood=2,adversarial=1 --budget 1e12",
    )
    presets = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    parser.add_argument("--preset", default=preset, help=f"one of {', '.join(presets)} (default: {preset})")
    parser.add_argument("--config", type=Path, help="a YAML file like those in benchmarks/presets, instead of a preset")
    parser.add_argument("--data", type=Path, help="folder of BEIR folders, instead of the embedded data")
    parser.add_argument("--domains", type=Path, help="YAML naming domains and roles (default: DATA/domains.yaml)")
    parser.add_argument("--encoder", help="a folder or Hub id, instead of a BERT from scratch")
    parser.add_argument("--size", help="layers x width of a BERT from scratch, such as 2x128")
    parser.add_argument("--towers", type=int, help="1 shared encoder or 2")
    parser.add_argument("--pooling", help="cls or mean")
    parser.add_argument("--budget", type=float, help="training FLOPs of one run")
    parser.add_argument("--preference", help="such as effectiveness=2,ood=1,adversarial=1")
    parser.add_argument("--workers", type=int, help="runs at the same time")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the preset")
    parser.add_argument("--out", type=Path, default=Path("results", style), help="store of runs (default: %(default)s)")
    return parser


def _settings(arguments: argparse.Namespace) -> ExperimentSettings:
    from mogrid.experiment.settings import ExperimentSettings

    path = arguments.config or PRESETS / f"{arguments.preset}.yaml"
    if not arguments.config and not path.is_file():
        raise ConfigError(
            f"no preset {arguments.preset!r}{nearest(arguments.preset, (p.stem for p in PRESETS.glob('*.yaml')))}"
        )
    file = read_yaml(path)
    flags = {
        "encoder.path": arguments.encoder,
        "encoder.size": arguments.size,
        "encoder.towers": arguments.towers,
        "encoder.pooling": arguments.pooling,
        "training.budget": arguments.budget,
        "workers": arguments.workers,
    }
    given = [f"{key}={value}" for key, value in flags.items() if value is not None]
    if arguments.preference is not None:
        given.append("preference={" + arguments.preference.replace("=", ": ") + "}")
    if not isinstance(file.value, dict):
        raise ConfigError(f"{path}:1: expected a mapping of settings")
    return YamlFile(path, override(file.value, [*given, *arguments.set]), file.lines).parse(ExperimentSettings)


def main(argv: Sequence[str] | None = None, *, style: str = "dpr", preset: str = "cpu") -> int:
    """Run the benchmark in the style of a preset; return the process's exit code."""
    arguments = _parser(style, preset).parse_args(argv)
    console = Console()
    _quiet()
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        from benchmarks.dpr_stages import run

        started = time.perf_counter()
        run(_settings(arguments), arguments, console, started)
    except MogridError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: finished runs and checkpoints are kept; the same command continues", file=sys.stderr)
        return 3
    except OSError as error:
        print(f"error: {error.filename or arguments.out}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0


def _as_interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _quiet() -> None:
    """Leave the terminal to the progress bar and the table."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # the variable above is read at import, which may be behind us


if __name__ == "__main__":
    sys.exit(main())

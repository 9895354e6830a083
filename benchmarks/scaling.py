"""The paper's claims against real data: a sweep over N, D, weights and seeds, laws, fronts, strategies, one table.

    python -m benchmarks.scaling --store DIR --data DATA            # two cores, hours; resumable
    python -m benchmarks.scaling --store benchmarks/results/scaling --show    # redraw from records, no training

DATA holds BEIR folders named in --domains. Any number of these processes may work on one store. Ctrl-C stops at a
checkpoint; the same command continues. Exit codes: 0 done, 2 bad input, 3 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.dpr import _as_interrupt, _quiet
from mogrid.config import YamlFile, override, read_yaml
from mogrid.errors import ConfigError, MogridError, nearest

PRESETS = Path(__file__).parent / "presets" / "scaling"
DOMAINS = Path(__file__).parent / "domains" / "scaling.yaml"

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description="Sweep model sizes, data sizes, loss weights and seeds; fit laws; hold each claim against them.",
        epilog="example: python -m benchmarks.scaling --store results/scaling --data ~/beir --workers 2",
    )
    presets = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    parser.add_argument("--store", type=Path, required=True, help="folder of runs")
    parser.add_argument("--preset", default="cpu", help=f"one of {', '.join(presets)} (default: cpu)")
    parser.add_argument("--config", type=Path, help="a YAML file like those in benchmarks/presets/scaling")
    parser.add_argument("--data", type=Path, help="folder of BEIR folders")
    parser.add_argument("--domains", type=Path, default=DOMAINS, help=f"YAML naming domains and roles ({DOMAINS.name})")
    parser.add_argument("--workers", type=int, help="runs at the same time, one thread each")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the preset")
    parser.add_argument("--show", action="store_true", help="no training: table and figures of the runs there are")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the process's exit code."""
    from mogrid.experiment.sweep import SweepSettings

    arguments = _parser().parse_args(argv)
    console = Console()
    _quiet()
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        path = arguments.config or PRESETS / f"{arguments.preset}.yaml"
        if not arguments.config and not path.is_file():
            known = (preset.stem for preset in PRESETS.glob("*.yaml"))
            raise ConfigError(f"no preset {arguments.preset!r}{nearest(arguments.preset, known)}")
        file = read_yaml(path)
        if not isinstance(file.value, dict):
            raise ConfigError(f"{path}:1: expected a mapping of settings")
        given = [*arguments.set, *([f"workers={arguments.workers}"] if arguments.workers else [])]
        settings = YamlFile(path, override(file.value, given), file.lines).parse(SweepSettings)
        if not arguments.show:
            if arguments.data is None:
                raise ConfigError("--data: name the folder of BEIR folders, or --show what is in the store")
            from mogrid.experiment.cells import DataSource
            from mogrid.experiment.sweep import run_sweep

            run_sweep(settings, DataSource(arguments.data, arguments.domains), arguments.store, console)
        from benchmarks.scaling_show import show

        show(arguments.store, console)
    except MogridError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: finished runs and checkpoints are kept; the same command continues", file=sys.stderr)
        return 3
    except OSError as error:
        print(f"error: {error.filename or arguments.store}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

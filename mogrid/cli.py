"""The command line: ``mogrid COMMAND ...``, each command a module of `mogrid.commands`.

Exit codes: 0 done, 1 a fault of mogrid's, 2 bad input, 3 interrupted; the same command continues. Each that is not 0
comes with one line on standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from mogrid.errors import MogridError, nearest

__all__ = ["main"]

#: Command -> line of the help. A module of this name lies in `mogrid.commands`.
COMMANDS = {
    "train": "train a retriever for several objectives from one YAML file, resumable",
    "evaluate": "judge any retriever in and out of domain, clean and perturbed",
    "compare": "compare retrievers by results that any tool wrote, with intervals and paired tests",
    "attack": "attack any retriever's documents or corpus, and count successes",
    "data": "describe and check data sets, and find leaks between roles",
    "sweep": "train a grid of sizes, data sizes, weights and seeds, resumable",
    "frontier": "show the front that a sweep's runs reached, and choose from it",
    "plan": "say which weights, model size and data size to spend a budget on",
    "tune": "spend a budget on one recipe: pilots, the mix you want, its training, a verdict",
    "merge": "merge models that share a base, by the shares that your data ask for",
    "report": "write one HTML page of a store's runs: front, laws, weights over time, tables",
    "solvers": "list the weighting strategies and their papers",
    "completion": "print a completion script for bash, zsh or tcsh",
}

DONE, FAULT, BAD_INPUT, INTERRUPTED = 0, 1, 2, 3
_CODES = "exit codes: 0 done; 1 a fault of mogrid's; 2 bad input; 3 interrupted, and the same command continues"


class _Parser(argparse.ArgumentParser):
    """Errors are one line that says where help is."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message} ({self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Without the program's name; by default those of the process.
    """
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except SystemExit as stop:  # argparse: help, version, errors
        return stop.code if isinstance(stop.code, int) else DONE
    except KeyboardInterrupt:
        print("mogrid: interrupted; what is finished is kept, the same command continues", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, `head` say, has seen enough; the interpreter must not flush into the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        print(f"mogrid: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        return BAD_INPUT
    except MogridError as error:
        print(f"mogrid: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except Exception as error:
        print(f"mogrid: {_fault(error)}", file=sys.stderr)
        return FAULT


def _run(argv: list[str]) -> int:
    parser = _Parser(
        prog="mogrid",
        description="Train dense retrievers for effectiveness and robustness at once.",
        epilog="\n".join(["commands:", *(f"  {name:10} {line}" for name, line in COMMANDS.items()), "", _CODES]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mogrid {_version()}")
    parser.add_argument("command", metavar="COMMAND", help="mogrid COMMAND --help explains it")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.command not in COMMANDS:
        parser.error(f"unknown command {given.command!r}{nearest(given.command, COMMANDS)}")
    module: Any = import_module(f"mogrid.commands.{given.command}")
    command = _Parser(
        prog=f"mogrid {given.command}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(command)
    code: int = module.run(command.parse_args(given.arguments))
    sys.stdout.flush()  # a closed pipe is to be noticed here
    return code


def _version() -> str:
    from mogrid import __version__

    return __version__


def _fault(error: Exception) -> str:
    """Write the traceback of what no user is to blame for to a file of its own, and say where it is."""
    handle, name = tempfile.mkstemp(prefix="mogrid-fault-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write("".join(traceback.format_exception(error)))
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return f"a fault of mogrid's, not yours ({said[:200]}); please report it with {name}"


if __name__ == "__main__":
    sys.exit(main())

"""Print a completion script for a shell, over every command and option.

example: mogrid completion bash > ~/.local/share/bash-completion/completions/mogrid
example: mogrid completion zsh > ~/.zfunc/_mogrid    # with fpath+=~/.zfunc before compinit in ~/.zshrc
"""

from __future__ import annotations

import argparse

__all__ = ["add_arguments", "run"]

_SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=_SHELLS, help="the shell")


def run(arguments: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(_whole_parser(), arguments.shell))
    return 0


def _whole_parser() -> argparse.ArgumentParser:
    """Return all commands in one parser: each is otherwise imported only when it is called."""
    from importlib import import_module

    from mogrid.cli import COMMANDS

    parser = argparse.ArgumentParser(prog="mogrid")
    parser.add_argument("--version", action="store_true", help="show the version")
    commands = parser.add_subparsers()
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        import_module(f"mogrid.commands.{name}").add_arguments(command)
        for action in command._actions:
            if action.type is not None and getattr(action.type, "__name__", "") == "Path":
                _complete_paths(action)
    return parser


def _complete_paths(action: argparse.Action) -> None:
    import shtab

    kind = shtab.DIRECTORY if action.metavar in ("DIR", "STORE") else shtab.FILE
    action.complete = kind  # type: ignore[attr-defined]

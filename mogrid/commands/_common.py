"""What commands share: arguments for data and models, and how they are loaded."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mogrid.config import Strict
from mogrid.errors import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from mogrid.data import Collection

__all__ = [
    "ROLES",
    "add_data",
    "add_judged",
    "add_model",
    "add_settings",
    "check_places",
    "check_samples",
    "load_collection",
    "load_model",
    "parse_bounds",
    "parse_numbers",
    "parse_settings",
    "printed",
    "quiet",
]

ROLES = ("select", "test")
"""What may be judged on."""


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of data sets (default: the embedded data)")
    parser.add_argument("--domains", type=Path, metavar="YAML", help="what is what (default: DIR/domains.yaml)")


def add_settings(parser: argparse.ArgumentParser, what: str) -> None:
    """Add a YAML file and what goes with it: settings put over it, the whole of it printed, its schema."""
    parser.add_argument("config", type=Path, nargs="?", metavar="YAML", help=what)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the file")
    parser.add_argument("--print-config", action="store_true", help="print all settings, defaults filled in, and stop")
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of the file, for editors, and stop"
    )


def printed(settings: Strict) -> str:
    """Return settings as YAML, defaults filled in."""
    return str(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a folder or Hub id: sentence-transformers, or a bare encoder")
    parser.add_argument("--pooling", default="mean", help="of a bare encoder: cls or mean (default: mean)")
    parser.add_argument("--max-length", type=int, help="tokens read of a text (default: the model's own)")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the model")
    parser.add_argument("--device", help="such as cpu or cuda (default: the best there is)")


def add_judged(parser: argparse.ArgumentParser) -> None:
    """Add a model, and the data that it is judged on."""
    add_model(parser)
    add_data(parser)


def check_places(arguments: argparse.Namespace, *files: str, folder: str | None = None) -> None:
    """Raise `ConfigError` where what is asked for could not be written at the end.

    Parameters
    ----------
    files : str
        Names of arguments that hold a file's path, or None.
    folder : str, optional
        Of one that holds a folder's.
    """
    for flag in (*files, *([folder] if folder else [])):
        path: Path | None = getattr(arguments, flag)
        if path is None:
            continue
        if path.exists() and path.is_dir() != (flag == folder):
            raise ConfigError(f"--{flag} {path}: is a {'file' if flag == folder else 'folder'}")
        above = path.absolute().parents
        there = next(parent for parent in ((path, *above) if flag == folder else above) if parent.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise ConfigError(f"--{flag} {path}: nothing can be written in {there}")


def check_samples(arguments: argparse.Namespace) -> None:
    """Raise `ConfigError` where ``--max-queries`` or ``--max-documents`` asks for fewer than one."""
    for flag in ("max_queries", "max_documents"):
        if (count := getattr(arguments, flag)) is not None and count < 1:
            raise ConfigError(f"--{flag.replace('_', '-')} must be at least 1, got {count}")


def load_collection(arguments: argparse.Namespace) -> Collection:
    from mogrid.data import embedded_collection, read_collection

    if arguments.data is None:
        if arguments.domains is not None:
            raise ConfigError("--domains names data sets below --data DIR, which is missing")
        return embedded_collection()
    return read_collection(arguments.data, arguments.domains)


def load_model(arguments: argparse.Namespace, name: str | None = None) -> SentenceTransformer:
    """Load a retriever as it is: its own prompts, pooling and similarity."""
    from sentence_transformers.util import get_device_name

    from mogrid.retrieval.models import load_retriever

    model = load_retriever(
        name or arguments.model,
        max_length=arguments.max_length,
        trust_remote_code=bool(getattr(arguments, "trust_remote_code", False)),
        pooling=arguments.pooling,
    )
    device = arguments.device or get_device_name()
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {device!r}: {str(error).splitlines()[0]}") from error


def parse_settings(given: list[str]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` settings, values read as YAML."""
    from mogrid.config import override

    return override({}, given)


def parse_numbers(flag: str, text: str | None) -> dict[str, float] | None:
    """Return ``effectiveness=2,ood=1`` as a mapping."""
    if text is None:
        return None
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name in found:
            raise ConfigError(f"{flag} {text!r}: {name!r} is named twice")
        try:
            found[name] = float(value if equals else "")
        except ValueError:
            raise ConfigError(f"{flag} {text!r}: expected NAME=NUMBER,..., got {part!r}") from None
    return found


def parse_bounds(given: list[str]) -> dict[str, float | str]:
    """Return each ``NAME=VALUE`` of ``--at-least`` as `mogrid.trainer.keep.bound` takes it: a number, or from base."""
    from mogrid.trainer.keep import bound

    found: dict[str, float | str] = {}
    for text in given:
        name, _, value = (piece.strip() for piece in text.partition("="))
        if name in found:
            raise ConfigError(f"--at-least {text!r}: {name!r} has a bound already, {found[name]}")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = value
        try:
            bound(name, found[name])
        except ConfigError:
            raise ConfigError(f"--at-least {text!r}: expected NAME=VALUE, a number, base, or base-0.005") from None
    return found


def quiet() -> None:
    """Leave the terminal to what the command prints."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    import datasets
    from transformers.utils import logging as transformers_logging

    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()

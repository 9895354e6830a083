"""Errors that a user can cause and mend. The command line prints each as one line and exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["Busy", "ConfigError", "DataError", "EvaluationError", "MogridError", "RoleError", "nearest"]


class MogridError(Exception):
    """Base of every error that names what was wrong, where, and what would be right."""


class ConfigError(MogridError, ValueError):
    """A setting has a wrong name, type or value."""


class DataError(MogridError, ValueError):
    """A file or a dataset is missing, malformed, empty or inconsistent."""


class RoleError(MogridError, ValueError):
    """A domain or an attack was put to a use that its role (train, select, test) forbids."""


class Busy(MogridError):
    """Another process is at work on the same thing."""


class EvaluationError(MogridError, ValueError):
    """Embeddings, scores or judgements that no honest figure can be computed from."""


def nearest(name: object, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, else the list of what is known, if anything is."""
    choices = sorted(known)
    close = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    shown = [choice if choice.isprintable() else repr(choice) for choice in choices]
    return f"; known: {', '.join(shown)}" if choices else "; it takes none"

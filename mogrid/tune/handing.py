"""What is handed back: the model in place with its card, and the page beside it, both from the store's runs alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from mogrid.errors import DataError
from mogrid.frontier import Laws, fit_laws
from mogrid.progress import status
from mogrid.report.table import markdown_text
from mogrid.runs import RunStore
from mogrid.sweep.measured import measured
from mogrid.training.run import materials
from mogrid.tune.outcome import Outcome
from mogrid.tune.page import PAGE, write_page
from mogrid.tune.session import SHARES, Session
from mogrid.tune.shares import at_worst, merges_of, values_of

__all__ = ["hand_back", "hand_back_again", "handed_back"]


def handed_back(out: Path) -> bool:
    """Return whether a finished tune's model and page are where they belong."""
    return (out / "model").is_dir() and (out / PAGE).is_file()


def hand_back(session: Session, outcome: Outcome, laws: Laws | None) -> None:
    """Put the model in place, with its card, and the page beside it."""
    _place(session, outcome)
    _draw(session, outcome, laws)


def hand_back_again(session: Session, outcome: Outcome) -> None:
    """Put in place what of a finished tune was removed.

    Raises
    ------
    DataError
        The runs that it is made of are not there either.
    """
    if not (session.store / "model").is_dir():
        _place(session, outcome)
    if not (session.store / PAGE).is_file():
        laws = None
        if outcome.runs["pilots"]:
            runs = measured(RunStore(session.store), names=outcome.runs["pilots"]).measurements
            try:
                with session.aside("fitting laws"):
                    laws = fit_laws(runs, draws=200)
            except DataError:  # too few, as the path of the choice says
                laws = None
        _draw(session, outcome, laws)


def _place(session: Session, outcome: Outcome) -> None:
    store = session.store
    (name,) = outcome.runs["model"]
    made = RunStore(store).folder(name) / "model"
    if not made.is_dir():
        raise DataError(f"{store}: there is no model/, nor {made}, which it is made of; tune anew with --out DIR")
    partial = store / ".model.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(made, partial)
    path = session.recipe.model.path
    head: dict[str, Any] = {"library_name": "sentence-transformers", "pipeline_tag": "sentence-similarity"}
    head |= {"base_model": path} if path else {}
    head |= {"tags": ["sentence-transformers", "mogrid", "dense-retrieval", "multi-objective"]}
    lines = ["---", yaml.safe_dump(head, sort_keys=False).strip(), "---", "", f"# {markdown_text(store.name)}"]
    lines += ["", f"A dense retriever tuned with mogrid on {session.budget}.", ""]
    lines += [f"- {markdown_text(line)}" for line in outcome.lines]
    for table in outcome.tables():
        lines += ["", f"## {table.title}", "", table.markdown()]
    (partial / "README.md").write_text("\n".join(lines), "utf-8")
    shutil.rmtree(store / "model", ignore_errors=True)
    partial.rename(store / "model")


def _draw(session: Session, outcome: Outcome, laws: Laws | None) -> None:
    runs, shares = RunStore(session.store), (0.0, *SHARES, 1.0)
    places = materials(session.plain, session.base).judging.objectives
    known = (values_of(runs.read(name), places, "select") for name in outcome.runs["merges"])
    values = [at_worst(value, session.worst) for value in known]
    with status(session.console, "drawing"):
        write_page(
            session.store, outcome, laws or outcome.path[-1][2], merges_of(shares, values),
            shares.index(outcome.share),
        )  # fmt: skip

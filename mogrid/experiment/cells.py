"""One run of an experiment, from its cell to its record. Runs inside a worker process."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mogrid.data import Collection, Role, embedded_collection, read_collection
from mogrid.errors import ConfigError
from mogrid.experiment.measure import measure_bm25, measure_model
from mogrid.experiment.settings import ExperimentSettings
from mogrid.files import held, naming_a_full_disk
from mogrid.flops import non_embedding_parameters
from mogrid.retrieval.models import build_retriever, load_retriever, train_tokenizer
from mogrid.runs import RunRecord, RunStore, run_name, versions

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerBase

__all__ = ["Cell", "DataSource", "Kind", "fixed", "make_cell", "new_model", "run_cell", "save_model", "tokenizer_of"]

Kind = Literal["sweep", "solver", "pareto", "untrained", "average", "bm25"]


@dataclass(frozen=True)
class DataSource:
    """Where the collection comes from; the embedded default when `folder` is None."""

    folder: Path | None = None
    domains: Path | None = None

    def load(self) -> Collection:
        return embedded_collection() if self.folder is None else read_collection(self.folder, self.domains)


@dataclass(frozen=True)
class Cell:
    """Everything a worker needs to know of one run.

    Attributes
    ----------
    solver : dict or None
        None where nothing is trained.
    parents : tuple of (run name, share)
        Runs whose weights are averaged; an empty name is the untrained model.
    """

    name: str
    strategy: str
    kind: Kind
    seed: int
    steps: int
    solver: Mapping[str, Any] | None
    parents: tuple[tuple[str, float], ...]
    settings: ExperimentSettings
    source: DataSource
    store: Path


def fixed(weights: Mapping[str, float]) -> dict[str, Any]:
    """Return the solver configuration of fixed weights."""
    return {"name": "fixed", "weights": dict(weights)}


def make_cell(
    strategy: str,
    kind: Kind,
    seed: int,
    settings: ExperimentSettings,
    source: DataSource,
    store: Path,
    fingerprint: str,
    *,
    steps: int = 0,
    solver: Mapping[str, Any] | None = None,
    parents: Sequence[tuple[str, float]] = (),
) -> Cell:
    """Make a cell whose name is a function of everything that determines the run's numbers."""
    identity = {
        "encoder": settings.encoder.identity(),
        "training": settings.training.identity() if kind not in ("untrained", "bm25") else None,
        "evaluation": settings.evaluation.model_dump(exclude={"bootstrap"}, exclude_none=True),
        "data": fingerprint,
        "steps": steps,
        "solver": solver,
        "parents": [list(parent) for parent in parents],
    }
    name = run_name(strategy, seed, identity)
    return Cell(name, strategy, kind, seed, steps, solver, tuple(parents), settings, source, store)


@lru_cache(maxsize=1)
def _collection(source: DataSource) -> Collection:
    return source.load()


@lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def tokenizer_of(collection: Collection, settings: ExperimentSettings, store: Path) -> PreTrainedTokenizerBase:
    """Return the vocabulary trained on the training text (cached in the store, by data and settings)."""
    from mogrid.data import training_pairs

    encoder = settings.encoder
    folder = store / "tokenizers" / f"{collection.fingerprint[:12]}-{encoder.vocabulary}-{encoder.max_length}"
    if not (folder / "tokenizer.json").is_file():
        domains = (collection.source, *collection.ood_with(Role.TRAIN))
        rows = (pair for domain in domains for pair in training_pairs(domain))
        texts = (text for pair in rows for text in (pair["query"], pair["document"]))
        trained = train_tokenizer(texts, encoder.vocabulary, encoder.max_length)
        partial = folder.with_suffix(f".{os.getpid()}.partial")
        trained.save_pretrained(partial)
        try:
            partial.rename(folder)
        except OSError:  # another process was first, with the same vocabulary
            shutil.rmtree(partial)
    return _tokenizer(folder)


def new_model(collection: Collection, settings: ExperimentSettings, store: Path, seed: int) -> SentenceTransformer:
    """Return the untrained retriever of a seed."""
    encoder = settings.encoder
    style = encoder.style()
    if encoder.path is not None:
        return load_retriever(encoder.path, max_length=encoder.max_length, **style)
    return build_retriever(
        encoder.size,
        tokenizer_of(collection, settings, store),
        dropout=encoder.dropout,
        seed=seed,
        **style,
    )


def run_cell(cell: Cell, progress: Callable[[float], None], stop: Callable[[], bool]) -> None:
    """Train (or average, or only measure) one cell and write its record; a finished cell is left alone.

    Raises
    ------
    Busy
        Another process is at it.
    """
    store = RunStore(cell.store)
    if store.finished(cell.name):
        return
    with naming_a_full_disk(cell.store), held(cell.store / "claims" / f"{cell.name}.lock"):
        if not store.finished(cell.name):
            _run(cell, store, progress, stop)


def _run(cell: Cell, store: RunStore, progress: Callable[[float], None], stop: Callable[[], bool]) -> None:
    collection = _collection(cell.source)
    record = RunRecord(
        name=cell.name,
        strategy=cell.strategy,
        kind=cell.kind,
        seed=cell.seed,
        config={
            "settings": cell.settings.model_dump(mode="json"),
            "solver": cell.solver,
            "parents": [list(parent) for parent in cell.parents],
        },
        data=collection.fingerprint,
        steps=cell.steps,
        versions=versions(),
    )
    folder = store.folder(cell.name)
    folder.mkdir(parents=True, exist_ok=True)
    if cell.kind == "bm25":
        record.results = measure_bm25(collection, cell.settings)
        store.write(record)
        return
    model = new_model(collection, cell.settings, cell.store, cell.seed)
    record.parameters = non_embedding_parameters(model)
    if cell.solver is not None:
        _train(cell, collection, model, record, folder, progress, stop)
        save_model(model, folder / "model")
    elif cell.parents:
        _average(model, [(store.folder(name) / "model" if name else None, share) for name, share in cell.parents])
    started = time.perf_counter()
    measure_model(model, collection, cell.settings, record)
    record.seconds["evaluation"] = time.perf_counter() - started
    store.write(record)


def _train(
    cell: Cell,
    collection: Collection,
    model: SentenceTransformer,
    record: RunRecord,
    folder: Path,
    progress: Callable[[float], None],
    stop: Callable[[], bool],
) -> None:
    from mogrid.experiment.training import train, training_datasets

    assert cell.solver is not None
    datasets = training_datasets(collection, cell.settings, cell.seed)
    record.pairs = len(datasets["effectiveness"])
    started = time.perf_counter()
    ledger = train(
        model,
        datasets,
        cell.settings,
        cell.solver,
        steps=cell.steps,
        seed=cell.seed,
        folder=folder / "training",
        progress=lambda share: progress(0.8 * share),
        stop=stop,
    )
    record.seconds["training"] = time.perf_counter() - started
    record.flops = ledger.entries()
    steps = folder / "training" / "steps.jsonl"
    steps.replace(folder / "steps.jsonl")


def save_model(model: SentenceTransformer, folder: Path) -> None:
    """Save a model that ``SentenceTransformer(folder)`` loads, whole or not at all."""
    partial = folder.with_suffix(".partial")
    for leftover in (partial, folder):
        if leftover.exists():
            shutil.rmtree(leftover)
    model.save_pretrained(str(partial), create_model_card=False)
    partial.rename(folder)


def _average(model: SentenceTransformer, parents: Sequence[tuple[Path | None, float]]) -> None:
    """Replace the model's weights by Σ share · weights of the parents; None is the model as it is."""
    import torch
    from sentence_transformers import SentenceTransformer

    if abs(sum(share for _, share in parents) - 1) > 1e-9:
        raise ConfigError(f"shares of averaged models must sum to 1, got {[share for _, share in parents]}")
    own = model.state_dict()
    total = {key: torch.zeros_like(value, dtype=torch.float64) for key, value in own.items()}
    for folder, share in parents:
        other = own if folder is None else SentenceTransformer(str(folder), device="cpu").state_dict()
        for key in total:
            total[key] += share * other[key].double()
    model.load_state_dict({key: total[key].to(own[key].dtype) for key in own})

"""Heal a thinned model: teach it the embeddings that the whole one gives, on training-role text, once.

Taking layers out of an encoder breaks it. A training that begins there spends its first steps on the repair, and hides
what it makes the model forget. Healing does the repair apart from it: the thinned model's embeddings are pulled towards
the whole model's, by their squared distance in units of the whole model's squared length (of unit vectors,
2 − 2·cosine).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor, nn

from mogrid.errors import DataError
from mogrid.files import load_state, save_state, write_json
from mogrid.flops import FlopLedger, charging
from mogrid.retrieval.encode import Kind, prompt_of
from mogrid.retrieval.linear import fast_products
from mogrid.retrieval.thinning import dropout_of, rebuild, set_dropout, transformers_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Heal", "Healing", "digest_of", "heal", "healed"]

_FORMAT = 1  # a change of what `heal` does asks for another
_LEAST = 16  # texts
_HELD_OUT = 512  # texts to measure by, at most
_WARMUP = 0.1  # of the steps
_AT_ONCE = 128  # texts embedded together

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Heal:
    """Settings of a healing.

    Attributes
    ----------
    texts : int
        Drawn from those given, each once.
    epochs : float
    learning_rate : float
        At its height; it rises over a tenth of the steps and falls to 0.
    batch_size : int
    max_length : int
        Tokens after which texts are cut, for the healing alone.
    seed : int
    """

    texts: int = 10_000
    epochs: float = 2.0
    learning_rate: float = 2e-3
    batch_size: int = 64
    max_length: int = 64
    seed: int = 0


@dataclass(frozen=True)
class Healing:
    """What a healing did and cost.

    Attributes
    ----------
    texts, steps : int
        Texts learned from, and optimiser steps.
    before, after : float
        Mean cosine of the thinned model's embeddings to the whole one's, on texts that were kept apart.
    flops : float
        Of the training, with the whole model's forwards.
    seconds : float
    """

    texts: int
    steps: int
    before: float
    after: float
    flops: float
    seconds: float


def healed(
    student: SentenceTransformer,
    teacher: SentenceTransformer,
    texts: Iterable[str],
    settings: Heal,
    cache: Path,
    progress: Progress = lambda share: None,
) -> Healing:
    """Heal in place, or load what the same healing came to before; processes that want the same one wait for the first.

    Parameters
    ----------
    student, teacher, texts, settings, progress
        As for `heal`.
    cache : Path
        A folder that keeps healed weights and ``healing.json`` under the hash of what determines them.
    """
    chosen = _chosen(texts, settings)
    parts = [digest_of(student), digest_of(teacher), hashlib.sha256("\0".join(chosen).encode()).hexdigest()]
    key = hashlib.sha256(json.dumps([_FORMAT, parts, asdict(settings)]).encode()).hexdigest()[:20]
    folder = cache / "healed" / key
    folder.mkdir(parents=True, exist_ok=True)
    record, weights = folder / "healing.json", folder / "weights.safetensors"
    with FileLock(folder / ".lock"):
        if not record.is_file():
            done = heal(student, teacher, chosen, settings, progress)
            save_state(weights, {name: value.clone() for name, value in student.state_dict().items()})
            write_json(record, asdict(done))
        try:
            done = Healing(**json.loads(record.read_text("utf-8")))
            student.load_state_dict(load_state(weights))
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise DataError(f"{folder}: no readable healed model ({error}); remove it to heal anew") from error
    return done


def heal(
    student: SentenceTransformer,
    teacher: SentenceTransformer,
    texts: Iterable[str],
    settings: Heal = Heal(),
    progress: Progress = lambda share: None,
) -> Healing:
    """Teach a thinned model the embeddings of the whole one, in place; equal inputs give equal weights.

    Texts are read as queries and as documents in turn, with the prompts that go with them. There is no dropout in the
    meantime.

    Parameters
    ----------
    student, teacher : SentenceTransformer
        The thinned model, and the whole one, which is left as it is.
    texts : iterable of str
        Of training role.
    settings : Heal
        How much text is taught, and how.
    progress : callable of the share done

    Raises
    ------
    DataError
        There are hardly any texts.
    """
    started = time.perf_counter()
    chosen = _chosen(texts, settings)
    held = min(_HELD_OUT, len(chosen) // 8)
    rng = np.random.default_rng(settings.seed)
    own = [dropout_of(transformer) for transformer in transformers_of(student)]
    lengths = [model.max_seq_length for model in (student, teacher)]
    set_dropout(student, 0.0)
    for model in (student, teacher):
        model.max_seq_length = min(settings.max_length, model.max_seq_length or settings.max_length)
    try:
        with FlopLedger(student) as ledger, fast_products(student), fast_products(teacher):
            with charging(teacher):
                wanted = _embed(teacher, chosen)
            before = _likeness(student, chosen[:held], wanted[:held])
            batches = _batches(chosen, held, settings.batch_size)
            steps = max(1, round(settings.epochs * len(batches)))
            _train(student, chosen, wanted, batches, steps, settings.learning_rate, rng, progress)
            after = _likeness(student, chosen[:held], wanted[:held])
    finally:
        for model, length in zip((student, teacher), lengths, strict=True):
            model.max_seq_length = length
    for transformer, dropout in zip(transformers_of(student), own, strict=True):
        encoder: Any = transformer.model
        rebuild(transformer, dropout, encoder.state_dict(), "dropout cannot be put back")
    student.eval()
    return Healing(len(chosen) - held, steps, before, after, ledger.total, time.perf_counter() - started)


def _train(
    student: SentenceTransformer,
    texts: Sequence[str],
    wanted: Tensor,
    batches: Sequence[NDArray[np.int64]],
    steps: int,
    rate: float,
    rng: np.random.Generator,
    progress: Progress,
) -> None:
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    rise = max(1, round(_WARMUP * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / rise, (steps - step) / max(1, steps - rise))
    )
    scale = wanted.square().sum(1).mean()
    student.train()
    order: list[int] = []
    for step in range(steps):
        order = order or rng.permutation(len(batches)).tolist()
        rows = batches[order.pop()]
        found = _forward(student, texts, rows)
        loss = (found - wanted[torch.from_numpy(rows)].to(found)).square().sum(1).mean() / scale
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        progress((step + 1) / steps)


def _chosen(texts: Iterable[str], settings: Heal) -> list[str]:
    """Return the texts to heal on, in the order that decides which are held out; again of its own result the same."""
    different = sorted(set(texts))
    if len(different) < _LEAST:
        raise DataError(f"healing needs at least {_LEAST} different texts of training role, got {len(different)}")
    keys = {text: hashlib.sha256(f"{settings.seed}\0{text}".encode()).digest() for text in different}
    return sorted(different, key=keys.__getitem__)[: settings.texts]


def _kind(row: int) -> Kind:
    return "document" if row % 2 else "query"


def _batches(texts: Sequence[str], held: int, size: int) -> list[NDArray[np.int64]]:
    """Return rows of like length and one kind, beyond those that are held out."""
    found: list[NDArray[np.int64]] = []
    for kind in range(2):
        rows = np.array([row for row in range(held, len(texts)) if row % 2 == kind])
        rows = rows[np.argsort([len(texts[row]) for row in rows], kind="stable")]
        found += np.array_split(rows, max(1, round(len(rows) / size)))
    return found


def _forward(model: SentenceTransformer, texts: Sequence[str], rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
    kind = _kind(int(rows[0]))
    prompt = prompt_of(model, kind)
    features = model.preprocess([prompt + texts[row] for row in rows], task=kind)
    on_device = {k: v.to(model.device) if isinstance(v, Tensor) else v for k, v in features.items()}
    embedded: Tensor = model(on_device, task=kind)["sentence_embedding"]
    return embedded


def _embed(model: SentenceTransformer, texts: Sequence[str]) -> Tensor:
    training = model.training
    model.eval()
    found: dict[int, Tensor] = {}
    with torch.no_grad():
        for rows in _pieces(texts):
            for row, vector in zip(rows, _forward(model, texts, rows).float().cpu(), strict=True):
                found[row] = vector
    model.train(training)
    return torch.stack([found[row] for row in range(len(texts))])


def _pieces(texts: Sequence[str]) -> Iterator[list[int]]:
    for kind in range(2):
        rows = sorted(range(kind, len(texts), 2), key=lambda row: -len(texts[row]))
        yield from (rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE))


def _likeness(model: SentenceTransformer, texts: Sequence[str], wanted: Tensor) -> float:
    return float(nn.functional.cosine_similarity(_embed(model, texts), wanted, dim=1).mean())


def digest_of(model: SentenceTransformer) -> str:
    """Return a hash of what decides a model's embeddings: weights, modules, prompts, length."""
    digest = hashlib.sha256(repr((str(model), sorted(model.prompts.items()), model.max_seq_length)).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

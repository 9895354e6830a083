"""Evaluation in the middle of a training, at ever longer intervals, and the weights that were the best of it."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import TrainerCallback

from mogrid.errors import ConfigError, DataError, nearest
from mogrid.files import load_state, save_state, write_json

__all__ = ["Choose", "KeepBest", "best_of", "bound", "broken", "geometric"]

Values = Mapping[str, float]
Choose = Callable[[Sequence[Values]], int]
"""From the values of all evaluations so far, the base model's first, to the position of the one to keep."""

_KEPT, _WEIGHTS = "kept.json", "kept.safetensors"


def geometric(steps: int, halvings: int = 6) -> list[int]:
    """Return `steps`, a half of it, a quarter, and so on: where a training that soon does harm shows that it does."""
    return sorted({math.ceil(steps / 2**i) for i in range(halvings + 1)})


class KeepBest(TrainerCallback):
    """Evaluate a model during training and, when that ends, give it the best weights it has had.

    The model as it came is evaluated before the first step and may be the best. Works with any Trainer of transformers,
    on several processes, too; an evaluation does not move the random numbers of the training. Its state is in the
    trainer's checkpoints, so a resumed training keeps what one that never stopped does.

    Parameters
    ----------
    evaluate : callable
        Takes the model, in evaluation mode, and returns values by name, of which more is better; on data that may
        steer a choice, never on those that test it.
    choose : callable, or mapping of name to float
        Whose weights to keep; a mapping is the preference of `best_of`.
    at : callable, or iterable of int
        Steps after which to evaluate; of a callable, which takes the number of all steps, those it returns.

    Attributes
    ----------
    history : list of (step, values)
        All evaluations; the base model's has step 0.
    step : int
        The step whose weights are kept: as many would have been enough.
    seconds : float
        What the evaluations took.

    Raises
    ------
    ConfigError, DataError
        During training: a value that is asked for is not among those evaluated, or one is not finite; a checkpoint was
        written without it.

    Examples
    --------
    >>> from mogrid.trainer import KeepBest, best_of
    >>> wanted = best_of({"effectiveness": 1}, at_least={"ood": "base-0.005"})
    >>> trainer = ParetoTrainer(..., callbacks=[KeepBest(evaluate, wanted)])  # doctest: +SKIP
    """

    def __init__(
        self,
        evaluate: Callable[[Any], Values],
        choose: Choose | Mapping[str, float],
        at: Callable[[int], Iterable[int]] | Iterable[int] = geometric,
    ) -> None:
        self.evaluate = evaluate
        self.choose = best_of(choose) if isinstance(choose, Mapping) else choose
        self.at = at if callable(at) else tuple(at)
        self.history: list[tuple[int, dict[str, float]]] = []
        self.step = 0
        self.seconds = 0.0
        self._steps: frozenset[int] = frozenset()
        self._weights: dict[str, Tensor] = {}

    # -- the trainer's events --------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._steps = frozenset(self.at(state.max_steps) if callable(self.at) else self.at)
        if state.global_step:
            self.restore(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        else:
            self.history, self.step, self.seconds = [], 0, 0.0
            self._take(kwargs["model"], 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step in self._steps:
            self._take(kwargs["model"], state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            save_state(checkpoint / _WEIGHTS, self._weights)
            write_json(checkpoint / _KEPT, {"step": self.step, "history": self.history, "seconds": self.seconds})

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.fill(kwargs["model"])

    # -- what they do ----------------------------------------------------------------------------------------------

    def fill(self, model: nn.Module) -> None:
        """Give a model the weights that are kept."""
        with torch.no_grad():
            for name, tensor in _trained(model).items():
                tensor.copy_(self._weights[name])

    def restore(self, checkpoint: Path) -> None:
        """Take up what a checkpoint of the trainer holds. Raises `DataError` where it was written without this."""
        try:
            record = json.loads((checkpoint / _KEPT).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{checkpoint / _KEPT}: cannot be read; it was written without KeepBest") from error
        self.history = [(int(step), dict(values)) for step, values in record["history"]]
        self.step, self.seconds = int(record["step"]), float(record["seconds"])
        self._weights = load_state(checkpoint / _WEIGHTS)

    def _take(self, model: nn.Module, step: int) -> None:
        values = self._evaluated(model, step)
        self.history.append((step, values))
        if self.history[self.choose([v for _, v in self.history])][0] == step:
            self.step = step
            self._weights = {name: tensor.detach().cpu().clone() for name, tensor in _trained(model).items()}

    def _evaluated(self, model: nn.Module, step: int) -> dict[str, float]:
        training, started = model.training, time.perf_counter()
        model.eval()
        try:
            with torch.random.fork_rng():
                found = {name: float(value) for name, value in self.evaluate(model).items()}
        finally:
            model.train(training)
            self.seconds += time.perf_counter() - started
        for name, value in found.items():
            if not math.isfinite(value):
                raise DataError(f"evaluation after step {step}: {name!r} is {value}")
        if not found:
            raise ConfigError("evaluate: returned no value to choose by")
        if dist.is_available() and dist.is_initialized():  # all keep what the first one's numbers say
            device = next(model.parameters()).device
            shared = torch.tensor(list(found.values()), dtype=torch.float64).to(device)
            dist.broadcast(shared, src=0)
            found = dict(zip(found, shared.tolist(), strict=True))
        return found


def _trained(model: nn.Module) -> dict[str, Tensor]:
    """Return what a training changes: parameters that are trained, and buffers."""
    trained: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return trained | dict(model.named_buffers())


# -- what to keep ------------------------------------------------------------------------------------------------------


def best_of(
    preference: Mapping[str, float] | None = None,
    at_least: Mapping[str, float | str] | None = None,
    *,
    within: float = 0.0,
) -> Choose:
    """Return a rule that keeps the best evaluation by a preference, among those that break no bound.

    The best of many noisy evaluations is in part the luckiest one, and weights in the middle of a training have not
    been cooled: with `within`, the last evaluation that is hardly worse than the best is kept instead. On three sources
    that was no better than the best one (docs/tune.md), and `mogrid tune` does without.

    Parameters
    ----------
    preference : mapping of name to float, optional
        The mean of the values with these weights is to be large; equal weights on all values when left out.
    at_least : mapping of name to float or str, optional
        A value's lower bound: a number, or ``"base"``, ``"base-0.005"``, ``"base+0.01"``, from the base model's value.
    within : float
        By how much the weighted mean may be below the best one's, such as what queries cannot tell from chance.

    Returns
    -------
    callable
        From all evaluations to the position of the best; the earliest of equals. Where none keeps all bounds, the one
        that breaks them least.

    Raises
    ------
    ConfigError
        A weight or a bound is none; of the rule: a name that no evaluation has.

    Examples
    --------
    >>> from mogrid.trainer import best_of
    >>> keep = best_of({"effectiveness": 1}, at_least={"ood": "base-0.01"})
    >>> base = {"effectiveness": 0.5, "ood": 0.40}
    >>> keep([base, {"effectiveness": 0.7, "ood": 0.395}, {"effectiveness": 0.8, "ood": 0.3}])
    1
    """
    for name, weight in (preference or {}).items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise ConfigError(f"preference: the weight of {name!r} must be a number of at least 0, got {weight!r}")
    if preference is not None and not sum(preference.values()) > 0:
        raise ConfigError("preference: no value has a weight above 0")
    if isinstance(within, bool) or not isinstance(within, int | float) or not 0 <= within < math.inf:
        raise ConfigError(f"within: must be a number of at least 0, got {within!r}")
    bounds = {name: bound(name, given) for name, given in (at_least or {}).items()}

    def choose(history: Sequence[Values]) -> int:
        base = history[0]
        for name in (*(preference or {}), *bounds):
            if name not in base:
                raise ConfigError(f"no evaluated value {name!r}{nearest(name, base)}")
        least = _least(bounds, base)
        weights = preference or dict.fromkeys(base, 1.0)

        def rank(position: int) -> tuple[float, float]:
            values = history[position]
            missing = sum(max(bar - values[name], 0.0) for name, bar in least.items())
            total = sum(weights.values())
            return -missing, sum(weight * values[name] for name, weight in weights.items()) / total

        best = max(range(len(history)), key=rank)  # of equals the first
        kept, value = rank(best)
        near = (p for p in range(best, len(history)) if rank(p)[0] == kept and rank(p)[1] > value - within)
        return max(near, default=best)

    return choose


def broken(values: Values, base: Values, at_least: Mapping[str, float | str]) -> dict[str, tuple[float, float]]:
    """Return, of bounds as `best_of` takes them that values break, the value and the least it was to be, by name."""
    least = _least({name: bound(name, given) for name, given in at_least.items()}, base)
    return {name: (values[name], bar) for name, bar in least.items() if values[name] < bar}


def _least(bounds: Mapping[str, tuple[bool, float]], base: Values) -> dict[str, float]:
    return {name: number + (base[name] if relative else 0.0) for name, (relative, number) in bounds.items()}


def bound(name: str, given: float | str) -> tuple[bool, float]:
    """Return whether a bound is relative to the base model, and its number."""
    if isinstance(given, str):
        match = re.fullmatch(r"\s*base\s*(?:([+-])\s*(\d*\.?\d+(?:[eE][+-]?\d+)?))?\s*", given)
        if match:
            return True, float(f"{match[1]}{match[2]}") if match[1] else 0.0
    elif not isinstance(given, bool) and isinstance(given, int | float) and math.isfinite(given):
        return False, float(given)
    raise ConfigError(f"at_least: {name!r} must be a number, 'base', 'base-0.005' or the like, got {given!r}")

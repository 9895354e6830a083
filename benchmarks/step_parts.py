"""The measured parts of `benchmarks.step`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mogrid.gradients import GradientEngine, Sketch, backward, last_layers, make_engine
from mogrid.gradients.probes import LastLayers
from mogrid.solvers import MGDA, FixedWeights, Solver, StepStatistics
from mogrid.trainer import ParetoTrainer
from mogrid.training import Materials, Recipe, materials
from mogrid.training.fit import build_base, build_trainer

__all__ = ["plain_loop", "trainer_steps", "weight_errors"]

OBJECTIVES = {
    "effectiveness": {"datasets": ["botocore"]},
    "ood": {"datasets": ["scipy", "pandas"], "loss": "smooth_worst"},
    "adversarial": {"datasets": ["botocore"], "perturb": "typos", "loss": "consistency", "variants": 1},
}
"""The paper's three, on the embedded data."""

_PREFERENCE = {"effectiveness": 2, "ood": 1, "adversarial": 1}
_MGDA = {"name": "mgda"}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fixed weights": ({"name": "fixed"}, {"gradient_statistics": False}),
    "fixed weights, gradients logged": ({"name": "fixed"}, {}),
    "MGDA": (_MGDA, {}),
    "MGDA, loss+ normalised": ({**_MGDA, "normalise": "loss+"}, {}),
    "ParetoTarget": ({"name": "pareto_target", "preference": _PREFERENCE}, {}),
    "MGDA, last_layers": (_MGDA, {"gradients": {"mode": "last_layers", "layers": 1}}),
    "MGDA, sketch": (_MGDA, {"gradients": "sketch"}),
    "MGDA, representation": (_MGDA, {"gradients": "representation"}),
    "MGDA, cached": (_MGDA, {"gradients": "cached"}),
}
SKETCHES = (256, 4096)


def _materials(size: str, batch_size: int, **changes: Any) -> Materials:
    recipe = {
        "model": {"size": size, "dropout": 0.0},
        "objectives": OBJECTIVES,
        "spend": "weights",
        "training": {"steps": 1, "batch_size": batch_size, **changes.pop("training", {})},
    }
    return materials(Recipe.model_validate(recipe | changes), Path())


def _trainer(size: str, batch_size: int, scratch: Path, name: str) -> ParetoTrainer:
    solver, options = dict(VARIANTS[name][0]), dict(VARIANTS[name][1])
    logged = options.pop("gradient_statistics", True)
    given = _materials(size, batch_size, solver=solver, training=options)
    model = build_base(given.recipe, given.datasets, given.base)
    trainer = build_trainer(given.recipe, model, given.datasets, scratch / name.replace(" ", "-"), 1)
    trainer.args.gradient_statistics = logged  # type: ignore[attr-defined]
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def trainer_steps(size: str, batch_size: int, scratch: Path) -> dict[str, Callable[[int], None]]:
    """Return a whole training step (gradients, clipping, optimiser) of each variant, on the round's joint batch."""

    def step_of(name: str) -> Callable[[int], None]:
        trainer = _trainer(size, batch_size, scratch, name)
        loader = iter(trainer.get_train_dataloader())
        batches = [next(loader) for _ in range(8)]
        optimiser: Any = trainer.optimizer
        model: Any = trainer.model

        def step(round_: int) -> None:
            batch = {key: dict(value) for key, value in batches[round_ % len(batches)].items()}
            trainer.training_step(model, batch)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()

        return step

    return {name: step_of(name) for name in VARIANTS}


class _Shared:
    """Three losses of one forward: ranking, ranking with typos, agreement of the two."""

    names = ("ranking", "typos", "agreement")

    def __init__(self, size: str, batch_size: int, scratch: Path | None = None) -> None:
        given = _materials(size, batch_size)
        self.model = build_base(given.recipe, given.datasets, given.base)
        self.model.train()
        rows = given.datasets["adversarial"].shuffle(seed=0)
        self.batches = [self._features(rows[i * batch_size : (i + 1) * batch_size]) for i in range(8)]
        self.parameters = list(self.model.parameters())

    def _features(self, rows: Mapping[str, Any]) -> list[dict[str, Any]]:
        columns = (("query", "query"), ("document", "document"), ("perturbed", "query"))
        return [dict(self.model.preprocess(list(rows[column]), task=task)) for column, task in columns]

    def forward(self, round_: int) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the embeddings (query, document, typo) and the losses."""
        features = [dict(f) for f in self.batches[round_ % len(self.batches)]]
        embeddings = [self.model(f)["sentence_embedding"] for f in features]
        return embeddings, self.losses(embeddings)

    def losses(self, embeddings: list[Tensor]) -> dict[str, Tensor]:
        query, document, typo = embeddings
        scores, perturbed = query @ document.T, typo @ document.T
        targets = torch.arange(len(scores))
        agreement = F.kl_div(perturbed.log_softmax(1), scores.log_softmax(1), log_target=True, reduction="batchmean")
        values = F.cross_entropy(scores, targets), F.cross_entropy(perturbed, targets), agreement
        return dict(zip(self.names, values, strict=True))


def plain_loop(size: str, batch_size: int) -> dict[str, Callable[[int], None]]:
    """Return one step of each way to solve over a shared forward, every way with a model of its own."""

    def ours(way: str, solver: Solver) -> Callable[[int], None]:
        shared = _Shared(size, batch_size)
        probe = LastLayers(shared.parameters, last_layers(shared.model, 1)) if way == "last_layers" else None
        optimiser = torch.optim.SGD(shared.parameters, lr=0.01)

        def step(round_: int) -> None:
            embeddings, losses = shared.forward(round_)
            if way == "sum":
                optimiser.zero_grad()
                torch.stack(list(losses.values())).mean().backward()
            else:
                representations = embeddings if way == "representation" else None
                backward(losses, shared.parameters, solver, representations=representations, probe=probe)
            optimiser.step()

        return step

    steps = {
        "fixed weights": ours("sum", FixedWeights()),
        "MGDA, representation": ours("representation", MGDA()),
        "MGDA, last_layers": ours("last_layers", MGDA()),
        "MGDA, exact": ours("exact", MGDA()),
    }
    try:
        import torchjd  # noqa: F401
    except ImportError:
        return steps
    return steps | {"TorchJD MGDA, autojac": _torchjd(_Shared(size, batch_size))}


def _torchjd(shared: _Shared) -> Callable[[int], None]:
    from torchjd.aggregation import MGDA as TheirMGDA
    from torchjd.autojac import backward as their_backward
    from torchjd.autojac import jac_to_grad

    aggregator, optimiser = TheirMGDA(), torch.optim.SGD(shared.parameters, lr=0.01)

    def step(round_: int) -> None:
        _, losses = shared.forward(round_)
        optimiser.zero_grad()
        their_backward(list(losses.values()))
        jac_to_grad([p for p in shared.parameters if getattr(p, "jac", None) is not None], aggregator)
        optimiser.step()

    return step


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().sum()) / 2


class _Watched(GradientEngine):
    """The exact engine that also notes what weights other modes would have given."""

    def __init__(self, *args: Any, probes: Mapping[str, Any], errors: dict[str, list[float]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.probes = probes
        self.errors = errors
        self.exact: Tensor | None = None

    def _products(self, rows: list[list[Tensor | None]]) -> Tensor:
        products = super()._products(rows)
        self.exact = self._solved(products)
        for name, probe in self.probes.items():
            parts = torch.stack([torch.cat([t.flatten().double() for t in probe(row)]) for row in rows])
            self.errors.setdefault(name, []).append(_distance(self._solved(parts @ parts.T), self.exact))
        return products

    def _solved(self, products: Tensor) -> Tensor:
        return self.solver.weights(StepStatistics(self.objectives, gramian=products))


def weight_errors(size: str, batch_size: int, steps: int, scratch: Path) -> dict[str, dict[str, float]]:
    """Train with exact MGDA and compare every mode's weights with the exact ones at every step.

    Half the L1 distance: the share of the weight that lies elsewhere. Equal weights stand beside, for scale.
    """
    errors: dict[str, list[float]] = {}
    trainer = _trainer(size, batch_size, scratch, "MGDA")
    model: Any = trainer.model
    trained = list(model.parameters())
    probes: dict[str, Any] = {f"sketch, {s}": Sketch(trained, s) for s in SKETCHES}
    probes["last_layers, 1"] = LastLayers(trained, last_layers(model, 1))
    engine = _Watched(trained, trainer.objectives, trainer.solver, probes=probes, errors=errors)
    trainer._engines[None] = engine
    twin = make_engine("representation", model, trained, trainer.objectives, MGDA())
    loader = iter(trainer.get_train_dataloader())
    optimiser: Any = trainer.optimizer
    for _ in range(steps):
        trainer._engines[None] = engine
        batch = next(loader)
        report = twin.accumulate(trainer._losses(model, {k: dict(v) for k, v in batch.items()}))
        trainer.training_step(model, {key: dict(value) for key, value in batch.items()})
        assert report is not None
        assert engine.exact is not None
        seen = torch.tensor(list(report.weights.values()), dtype=torch.float64)
        errors.setdefault("representation", []).append(_distance(seen, engine.exact))
        errors.setdefault("equal weights", []).append(_distance(torch.full((3,), 1 / 3), engine.exact))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    errors |= _shared_errors(size, batch_size, steps)
    return {name: {"mean": sum(v) / len(v), "largest": max(v)} for name, v in sorted(errors.items())}


def _shared_errors(size: str, batch_size: int, steps: int) -> dict[str, list[float]]:
    shared = _Shared(size, batch_size)
    optimiser = torch.optim.AdamW(shared.parameters, lr=2e-3)
    errors: dict[str, list[float]] = {"representation, shared forward": [], "equal weights, shared forward": []}
    for round_ in range(steps):
        embeddings, losses = shared.forward(round_)
        report = backward(losses, shared.parameters, MGDA(), representations=embeddings)
        seen = torch.tensor(list(report.weights.values()))
        _, losses = shared.forward(round_)
        report = backward(losses, shared.parameters, MGDA())
        exact = torch.tensor(list(report.weights.values()))
        errors["representation, shared forward"].append(_distance(seen, exact))
        errors["equal weights, shared forward"].append(_distance(torch.full((3,), 1 / 3), exact))
        optimiser.step()
    return errors

"""The kept weights are those that the preference or the bound wants, whatever came between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from transformers import TrainerCallback

from mogrid import KeepBest, ParetoTrainer
from mogrid.errors import ConfigError, DataError
from mogrid.objectives import InfoNCE
from mogrid.retrieval.models import build_retriever
from mogrid.trainer import best_of, geometric
from tests.processes import on_ranks
from tests.trainer.test_pareto import arguments, pairs


class Judge:
    """Values that follow a script, and the weights that each was asked about."""

    def __init__(self, *script: dict[str, float]) -> None:
        self.script = list(script)
        self.seen: list[torch.Tensor] = []

    def __call__(self, model) -> dict[str, float]:
        assert not model.training
        torch.rand(3)  # moves the random numbers, which no training must notice
        self.seen.append(weights_of(model))
        return self.script[len(self.seen) - 1]


class StopAt(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 5:
            control.should_save = control.should_training_stop = True


def weights_of(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def train(tokenizer, texts, folder: Path, callbacks, *, plain=False, resume=None, dropout=0.1, steps=8):
    model = build_retriever("1x32", tokenizer, dropout=dropout, seed=1)
    data = pairs(texts).remove_columns("group")
    loss = InfoNCE(model)
    if plain:
        settings: dict[str, Any] = {
            key: getattr(arguments(folder, max_steps=steps, router_mapping={}), key)
            for key in ("output_dir", "per_device_train_batch_size", "max_steps", "report_to", "use_cpu", "seed")
        }
        args = SentenceTransformerTrainingArguments(**settings, disable_tqdm=True, save_strategy="no")
        trainer = SentenceTransformerTrainer(model, args, data, loss=loss, callbacks=callbacks)
    else:
        trainer = ParetoTrainer(
            model=model, args=arguments(folder, max_steps=steps, router_mapping={}), train_dataset={"a": data},
            loss={"a": loss}, solver="fixed", callbacks=callbacks,
        )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return model


def script(*values: float) -> list[dict[str, float]]:
    return [{"a": value, "b": 1 - value} for value in values]


def test_steps_are_geometric() -> None:
    assert geometric(1000) == [16, 32, 63, 125, 250, 500, 1000]
    assert geometric(3) == [1, 2, 3]
    assert geometric(100, halvings=2) == [25, 50, 100]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("values", "step"), [((0.1, 0.2, 0.9, 0.3, 0.4), 2), ((0.5, 0.2, 0.1, 0.3, 0.4), 0)])
def test_the_model_ends_with_the_best_weights(tokenizer, texts, tmp_path, plain, values, step) -> None:
    judge = Judge(*script(*values))
    keep = KeepBest(judge, {"a": 1})
    model = train(tokenizer, texts, tmp_path, [keep], plain=plain)
    assert [s for s, _ in keep.history] == [0, 1, 2, 4, 8]
    assert keep.step == step
    assert torch.equal(weights_of(model), judge.seen[[0, 1, 2, 4, 8].index(step)])
    assert model.training


def test_an_evaluation_changes_nothing_of_the_training(tokenizer, texts, tmp_path) -> None:
    """Dropout on: with the last weights kept, they are those of a training that was never interrupted."""
    alone = train(tokenizer, texts, tmp_path / "alone", [])
    keep = KeepBest(Judge(*script(0, 1, 2, 3, 4)), {"a": 1})
    watched = train(tokenizer, texts, tmp_path / "watched", [keep])
    assert torch.equal(weights_of(alone), weights_of(watched))


def test_kept_weights_survive_a_stop(tokenizer, texts, tmp_path) -> None:
    """Best at step 2, stopped after 5, resumed in a process that knows nothing."""
    values = script(0.1, 0.2, 0.9, 0.3, 0.4)
    whole = train(tokenizer, texts, tmp_path / "whole", [KeepBest(Judge(*values), {"a": 1})])
    train(tokenizer, texts, tmp_path / "parts", [KeepBest(Judge(*values), {"a": 1}), StopAt()])
    keep = KeepBest(Judge(values[4]), {"a": 1})
    checkpoint = tmp_path / "parts" / "checkpoint-5"
    resumed = train(tokenizer, texts, tmp_path / "parts", [keep], resume=str(checkpoint))
    assert torch.equal(weights_of(whole), weights_of(resumed))
    assert keep.history == list(zip([0, 1, 2, 4, 8], values, strict=True))
    assert json.loads((checkpoint / "kept.json").read_text())["step"] == 2
    (checkpoint / "kept.json").unlink()
    with pytest.raises(DataError, match=r"kept.json: cannot be read; it was written without KeepBest"):
        train(tokenizer, texts, tmp_path / "parts", [keep], resume=str(checkpoint))


def test_a_second_training_keeps_nothing_of_the_first(tokenizer, texts, tmp_path) -> None:
    judge = Judge(*script(0.9, 0.1, 0.1, 0.1, 0.1), *script(0.1, 0.2, 0.3, 0.4, 0.5))
    keep = KeepBest(judge, {"a": 1})
    for step in (0, 8):
        train(tokenizer, texts, tmp_path, [keep])
        assert keep.step == step
        assert len(keep.history) == 5


def test_frozen_weights_are_left_alone(tokenizer, texts, tmp_path) -> None:
    keep = KeepBest(Judge(*script(0.1, 0.9, 0.2, 0.2, 0.2)), {"a": 1})
    model = build_retriever("1x32", tokenizer, dropout=0.0, seed=1)
    model[0].requires_grad_(False)
    model[0].auto_model.encoder.requires_grad_(True)
    trainer = ParetoTrainer(
        model=model, args=arguments(tmp_path, max_steps=8, router_mapping={}),
        train_dataset={"a": pairs(texts)}, loss={"a": InfoNCE(model)}, solver="fixed", callbacks=[keep, StopAt()],
    )  # fmt: skip
    trainer.train()
    assert not [name for name in keep._weights if "word_embeddings" in name]
    assert [name for name in keep._weights if "encoder.layer" in name]


# -- what to keep ------------------------------------------------------------------------------------------------------

HISTORY = [
    {"a": 0.50, "b": 0.40},
    {"a": 0.60, "b": 0.45},
    {"a": 0.70, "b": 0.398},
    {"a": 0.70, "b": 0.397},
    {"a": 0.90, "b": 0.10},
]


@pytest.mark.parametrize(
    ("preference", "at_least", "expected"),
    [
        ({"a": 1}, None, 4),
        ({"b": 1.0}, None, 1),
        ({"a": 1, "b": 1}, None, 2),
        (None, None, 2),
        ({"a": 1}, {"b": "base"}, 1),
        ({"a": 1}, {"b": "base-0.005"}, 2),
        ({"a": 1}, {"b": " base - 5e-3 "}, 2),
        ({"a": 1}, {"b": "base+0.04"}, 1),
        ({"a": 1}, {"b": 0.39}, 2),
        ({"a": 1}, {"b": 0.44, "a": 0.65}, 2),  # none keeps both: the one that breaks them least
        ({"a": 1, "b": 3}, {"a": "base-1"}, 1),
    ],
)
def test_preferences_and_bounds(preference, at_least, expected) -> None:
    assert best_of(preference, at_least)(HISTORY) == expected


@pytest.mark.parametrize(("within", "expected"), [(0.0, 2), (0.009, 2), (0.011, 3), (0.031, 4), (0.1, 5), (0.5, 5)])
def test_the_last_that_is_hardly_worse_is_kept(within, expected) -> None:
    """The bound holds whatever is near; earlier evaluations do not count."""
    history = [
        {"a": a, "b": b} for a, b in ((0.5, 0.5), (0.66, 0.6), (0.70, 0.6), (0.69, 0.6), (0.67, 0.6), (0.64, 0.6))
    ]
    broken = {"a": 0.7, "b": 0.1}
    assert best_of({"a": 3}, {"b": 0.3}, within=within)([*history, broken]) == expected


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.floats(0, 0.3))
def test_what_is_kept_is_the_newest_or_what_was_kept_before(values, within) -> None:
    """So that one copy of the weights is enough."""
    choose, before = best_of(within=within), 0
    for end in range(1, len(values) + 1):
        now = choose([{"a": value} for value in values[:end]])
        assert now in (before, end - 1)
        assert values[now] >= max(values[:end]) - within
        before = now


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: best_of(within=-0.1), "within: must be a number of at least 0, got -0.1"),
        (lambda: best_of(within=float("nan")), "within: must be a number of at least 0"),
        (lambda: best_of({"a": -1}), "weight of 'a' must be a number of at least 0, got -1"),
        (lambda: best_of({"a": 0}), "no value has a weight above 0"),
        (lambda: best_of(at_least={"b": "bass-0.1"}), "'b' must be a number, 'base', 'base-0.005'.*got 'bass-0.1'"),
        (lambda: best_of(at_least={"b": float("nan")}), "'b' must be a number"),
        (lambda: best_of({"effectivness": 1})([{"effectiveness": 1.0}]), "did you mean 'effectiveness'"),
        (lambda: best_of({"a": 1}, {"c": 0.1})(HISTORY), "no evaluated value 'c'"),
    ],
)
def test_a_bad_choice_is_one_line(make, message) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"a": float("nan")}, DataError, "evaluation after step 0: 'a' is nan"),
        ({}, ConfigError, "evaluate: returned no value"),
    ],
)
def test_a_bad_value_stops_the_training(tokenizer, texts, tmp_path, values, error, message) -> None:
    with pytest.raises(error, match=message):
        train(tokenizer, texts, tmp_path, [KeepBest(lambda model: values, {"a": 1})])


@pytest.mark.slow
def test_ranks_agree_on_what_is_kept(tokenizer) -> None:
    """Values that differ between processes, as they may between devices: all keep what the first one's say."""

    def task(rank: int) -> torch.Tensor:
        model = build_retriever("1x32", tokenizer, dropout=0.0, seed=0)
        keep = KeepBest(lambda _: {"a": float(rank)}, {"a": 1})
        return torch.tensor(list(keep._evaluated(model, 0).values()))

    assert [float(found) for found in on_ranks(2, task)] == [0.0, 0.0]

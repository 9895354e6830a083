"""A mix spent as weights, rows or steps: who has what, to the row, and the same after a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from torch import nn
from transformers import TrainerCallback

from mogrid import MGDA, FixedWeights, ParetoTrainer
from mogrid.errors import ConfigError
from mogrid.flops import FlopLedger
from mogrid.objectives import InfoNCE
from mogrid.retrieval.models import build_retriever
from mogrid.solvers import AnnealedWeights, StepStatistics
from mogrid.solvers._mixed import Mixed
from mogrid.trainer.mix import largest_remainder, turns
from tests.trainer.test_pareto import arguments, pairs, steps_of

MIX = {"effectiveness": 0.6, "ood": 0.2, "typos": 0.2}
SHARES = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=8).map(lambda x: [v / sum(x) for v in x])


class RowMean(nn.Module):
    """A mean over rows, so that the loss of a union is the mean of its rows' losses."""

    def __init__(self, model, shift: float) -> None:
        super().__init__()
        self.model, self.shift = model, shift

    def forward(self, features, labels):
        query, document = (self.model(column)["sentence_embedding"] for column in features)
        return (query - self.shift * document).square().mean()


def datasets(texts) -> dict[str, Dataset]:
    return {
        "effectiveness": pairs(texts),
        "ood": pairs(texts, slice(0, 40)),
        "typos": pairs(texts, slice(20, 60)),
    }


def trainer_of(
    model, texts, folder: Path, *, loss=None, callbacks=(), dropped=(), train=None, **kwargs
) -> ParetoTrainer:
    own = {"mix", "spend", "solver"} & kwargs.keys()
    chosen: dict[str, Any] = {"mix": MIX} | {key: kwargs.pop(key) for key in own}
    data = train or datasets(texts)
    make = loss or (lambda name: InfoNCE(model))
    return ParetoTrainer(
        model=model,
        args=arguments(folder, **({"per_device_train_batch_size": 10, "router_mapping": {}} | kwargs)),
        train_dataset=data,
        loss={name: make(name) for name in data},
        callbacks=list(callbacks),
        **chosen,
    )


# -- shares ------------------------------------------------------------------------------------------------------------


@given(SHARES, st.integers(0, 5), st.integers(1, 300))
@settings(deadline=None, max_examples=60)
def test_turns_are_even_and_a_longer_schedule_begins_with_the_shorter(shares, seed, length) -> None:
    whose = turns(shares, seed, length)
    assert len(whose) == length
    assert (turns(shares, seed, 2 * length)[:length] == whose).all()
    counts = torch.nn.functional.one_hot(torch.as_tensor(whose), len(shares)).cumsum(0).double()
    expected = torch.arange(1, length + 1)[:, None] * torch.tensor(shares, dtype=torch.float64)
    bound = 1 + torch.tensor(shares, dtype=torch.float64) * len(shares) / 2
    assert ((counts - expected).abs() <= bound + 1e-9).all()


def test_turns_differ_by_seed_and_equal_shares_alternate() -> None:
    assert len({tuple(turns([0.5, 0.3, 0.2], seed, 10)) for seed in range(8)}) > 1
    whose = turns([0.25] * 4, 0, 12).reshape(3, 4)
    assert (whose == whose[0]).all()
    assert sorted(whose[0]) == [0, 1, 2, 3]


@given(SHARES, st.integers(1, 500))
@settings(deadline=None, max_examples=60)
def test_largest_remainder_gives_all_and_is_off_by_less_than_one(shares, total) -> None:
    given_ = largest_remainder(dict(enumerate(shares)), total)
    assert sum(given_.values()) == total
    assert all(abs(given_[k] - share * total) < 1 for k, share in enumerate(shares))


def test_a_solver_weighs_the_parts_of_the_mix() -> None:
    """min ‖Σ w_k λ_k g_k‖ by hand: for orthogonal parts, w'_k ∝ 1/‖λ_k g_k‖²; equal weights leave the mix as it is."""
    names, shares = ("a", "b"), {"a": 0.8, "b": 0.2}
    gramian = torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))
    parts = torch.tensor([1 / 0.8**2, 1 / (0.2**2 * 4)], dtype=torch.float64)
    expected = parts * torch.tensor([0.8, 0.2])
    mixed = Mixed(MGDA(), shares)
    found = mixed.weights(StepStatistics(names, gramian=gramian))
    torch.testing.assert_close(found, expected / expected.sum(), rtol=1e-9, atol=0)
    same = Mixed(FixedWeights(), shares).weights(StepStatistics(names))
    torch.testing.assert_close(same, torch.tensor([0.8, 0.2], dtype=torch.float64))
    mixed.load_state_dict(mixed.state_dict())


# -- weights -----------------------------------------------------------------------------------------------------------


def test_a_mix_as_weights_is_training_with_those_weights(tokenizer, texts, tmp_path) -> None:
    found = []
    for i, chosen in enumerate(({"spend": "weights"}, {"mix": None, "solver": {"name": "fixed", "weights": MIX}})):
        model = build_retriever("1x32", tokenizer, dropout=0.0)
        trainer = trainer_of(model, texts, tmp_path / str(i), **chosen)
        batch = next(iter(trainer.get_train_dataloader()))
        assert {name: len(part["query_input_ids"]) for name, part in batch.items()} == dict.fromkeys(MIX, 10)
        trainer.train()
        found.append((steps_of(tmp_path / str(i)), torch.cat([p.detach().flatten() for p in model.parameters()])))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize(
    ("spend", "solver"), [("weights", None), ("weights", "mgda"), ("rows", "mgda"), ("steps", None)]
)
def test_a_share_of_zero_costs_nothing(model, texts, tmp_path, spend, solver) -> None:
    mix = {"effectiveness": 0.5, "ood": 0.0, "typos": 0.5}
    trainer = trainer_of(model, texts, tmp_path, mix=mix, spend=spend, solver=solver)
    trainer.train()
    steps = steps_of(tmp_path)
    assert all("loss/ood" not in step and step["weight/ood"] == 0 for step in steps)
    assert all(sum(step[f"weight/{name}"] for name in mix) == pytest.approx(1) for step in steps)
    each = {"weights": 60, "rows": 30, "steps": 30}[spend]
    assert trainer.pairs_seen == {"effectiveness": each, "ood": 0, "typos": each}
    assert trainer.flops.by_objective.keys() == {"effectiveness", "typos"}


# -- rows --------------------------------------------------------------------------------------------------------------


def test_a_mix_as_rows_is_the_mean_over_one_batch(tokenizer, texts, tmp_path) -> None:
    """One step equals plain descent along the gradient of the mean over all rows of the batch, whosever they are."""
    from copy import deepcopy

    model = build_retriever("1x32", tokenizer, dropout=0.0)
    twin = deepcopy(model)
    shifts = {"effectiveness": 1.0, "ood": -1.0, "typos": 0.5}
    trainer = trainer_of(
        model, texts, tmp_path, spend="rows", loss=lambda name: RowMean(model, shifts[name]),
        max_steps=1, optim="sgd", learning_rate=0.1, lr_scheduler_type="constant", max_grad_norm=0.0,
    )  # fmt: skip
    batch = next(iter(trainer.get_train_dataloader()))
    assert {name: len(part["query_input_ids"]) for name, part in batch.items()} == {
        "effectiveness": 6, "ood": 2, "typos": 2,
    }  # fmt: skip
    twin.train()
    rows = []
    for name, part in batch.items():
        query, document = (twin(column)["sentence_embedding"] for column in trainer.collect_features(part)[0])
        rows.append((query - shifts[name] * document).square().mean(dim=1))
    torch.cat(rows).mean().backward()
    trainer.train()
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        expected = q if q.grad is None else q - 0.1 * q.grad
        torch.testing.assert_close(p, expected, rtol=1e-4, atol=1e-6, msg=name)
    assert trainer.pairs_seen == {"effectiveness": 6, "ood": 2, "typos": 2}


# -- steps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_mix_as_steps_gives_each_step_to_one_objective(model, texts, tmp_path, accumulation) -> None:
    trainer = trainer_of(
        model, texts, tmp_path, spend="steps", max_steps=25, gradient_accumulation_steps=accumulation
    )  # several epochs: 176 rows make 17 or 9 steps  # fmt: skip
    trainer.train()
    steps = steps_of(tmp_path)
    names = tuple(MIX)
    assert [step["objective"] for step in steps] == [names[k] for k in turns(MIX.values(), 3, 25)]
    for step in steps:
        assert [key for key in step if key.startswith("loss/")] == [f"loss/{step['objective']}"]
        assert {name: step[f"weight/{name}"] for name in names} == {n: float(n == step["objective"]) for n in names}
    counts = {name: sum(step["objective"] == name for step in steps) for name in names}
    assert counts == {"effectiveness": 15, "ood": 5, "typos": 5}
    assert trainer.pairs_seen == {name: 10 * accumulation * count for name, count in counts.items()}
    logged = [entry for entry in trainer.state.log_history if "weight/ood" in entry]
    assert sum(entry["weight/ood"] for entry in logged) == pytest.approx(5)


def test_every_row_of_every_objective_has_its_turn_across_epochs(model, texts, tmp_path) -> None:
    """The stream of an objective's batches goes on from epoch to epoch: rows are drawn equally often, to one."""
    trainer = trainer_of(model, texts, tmp_path, spend="steps", mix={"effectiveness": 0.1, "ood": 0.3, "typos": 0.6})
    loader = trainer.get_train_dataloader()
    drawn: dict[str, list[int]] = {name: [] for name in MIX}
    for epoch in range(12):
        loader.batch_sampler.set_epoch(epoch)
        for batch in loader.batch_sampler:
            for name, row in batch:
                drawn[name].append(row)
    for name, rows in drawn.items():
        whole = len(rows) // 40 if name != "effectiveness" else 0
        counts = torch.bincount(torch.tensor(rows), minlength=40)
        assert counts.max() - counts.min() <= 1 + (name == "effectiveness"), (name, whole, counts)


@pytest.mark.parametrize(
    ("spend", "settings"),
    [("steps", {}), ("steps", {"gradient_accumulation_steps": 2}), ("rows", {}), ("rows", {"gradients": "cached"})],
)
def test_resume_is_exact_to_the_sample(tokenizer, texts, tmp_path, spend, settings) -> None:
    """Parameters, records, D_k and FLOPs of a training stopped in its second epoch are those of one that was not."""

    class StopAt(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 20:
                control.should_save = control.should_training_stop = True

    def train(folder, resume=None, callbacks=()):
        model = build_retriever("1x32", tokenizer, dropout=0.1, seed=1)
        trainer = trainer_of(model, texts, folder, spend=spend, callbacks=callbacks, max_steps=26, **settings)
        trainer.train(resume_from_checkpoint=resume)
        record = (folder / "steps.jsonl").read_text()
        return model.state_dict(), record, trainer.pairs_seen, trainer.flops.state_dict()

    whole = train(tmp_path / "whole")
    train(tmp_path / "parts", callbacks=[StopAt()])
    parts = train(tmp_path / "parts", resume=str(tmp_path / "parts" / "checkpoint-20"))
    assert whole[1:] == parts[1:]
    for key, value in whole[0].items():
        assert torch.equal(value, parts[0][key]), key
    assert sum(whole[2].values()) == 26 * 10 * settings.get("gradient_accumulation_steps", 1)


# -- counting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "cached engine", "cached losses", "steps"])
def test_flops_by_objective_add_up_to_all_that_was_spent(model, texts, tmp_path, kind) -> None:
    data = pairs(texts).remove_columns("group")
    trainer = trainer_of(
        model, texts, tmp_path,
        train={"a": data, "b": data},
        mix={"a": 0.8, "b": 0.2},
        spend="steps" if kind == "steps" else "rows",
        loss=(lambda name: CachedMultipleNegativesRankingLoss(model, mini_batch_size=4)) if "losses" in kind else None,
        **({"gradients": "cached"} if kind == "cached engine" else {}),
    )  # fmt: skip
    with FlopLedger(model) as ledger:
        trainer.train()
    assert trainer.flops.entries() == ledger.entries()
    spent = trainer.flops.by_objective
    assert sum(spent.values()) == pytest.approx(ledger.total)
    assert spent["a"] / spent["b"] == pytest.approx(trainer.pairs_seen["a"] / trainer.pairs_seen["b"], rel=0.25)


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mix": {"effectivness": 1.0}}, "no objective 'effectivness'; did you mean 'effectiveness'"),
        ({"mix": MIX | {"ood": -0.2}}, "share of 'ood' must be a number of at least 0, got -0.2"),
        ({"mix": MIX | {"ood": float("nan")}}, "share of 'ood' must be a number"),
        ({"mix": MIX | {"ood": "a"}}, "share of 'ood' must be a number"),
        ({"mix": MIX | {"ood": 0.3}}, "must sum to 1, they sum to 1.1"),
        ({"mix": {"effectiveness": 0.5, "ood": 0.5}}, "'typos' has no share"),
        ({"mix": [0.5, 0.3, 0.2]}, "dict of objective to share"),
        ({"spend": "row"}, "unknown 'row'; did you mean 'rows'"),
        ({"mix": None, "spend": "rows"}, "there is no mix"),
        ({"mix": None}, "solver: name one"),
        ({"solver": FixedWeights(MIX)}, "'fixed' has weights of its own"),
        ({"solver": AnnealedWeights([MIX], [0])}, "'annealed' has weights of its own"),
        ({"solver": {"name": "every_n", "solver": {"name": "fixed", "weights": MIX}}}, "weights of its own"),
        ({"spend": "steps", "solver": "mgda"}, "leaves the solver 'mgda' nothing to weigh"),
        ({"objective_batch_sizes": {"ood": 4}}, "objective_batch_sizes"),
        (
            {"mix": {"effectiveness": 0.9, "ood": 0.05, "typos": 0.05}},
            "'ood' gets 1 of a batch's 10 rows at a share of 0.05, and needs 2; the smallest batch that would do is 34",
        ),
    ],
)
def test_a_bad_mix_is_one_line(model, texts, tmp_path, change, message) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        trainer_of(model, texts, tmp_path, **change)
    assert "\n" not in str(caught.value)


def test_loss_weights_leave_the_batches_alone(model, texts, tmp_path) -> None:
    trainer = trainer_of(model, texts, tmp_path, spend="weights", objective_batch_sizes={"ood": 4})
    assert trainer._batch_sizes() == {"effectiveness": 10, "ood": 4, "typos": 10}
    trainer.train()
    assert trainer.last_step.weights == pytest.approx(MIX)


def test_the_batch_that_would_do_does(model, texts, tmp_path) -> None:
    mix = {"effectiveness": 0.9, "ood": 0.05, "typos": 0.05}
    trainer = trainer_of(model, texts, tmp_path, mix=mix, per_device_train_batch_size=34)
    assert min(trainer._batch_sizes().values()) == 2


def test_an_objective_without_a_step_is_named(model, texts, tmp_path) -> None:
    trainer = trainer_of(
        model, texts, tmp_path, spend="steps", mix={"effectiveness": 0.98, "ood": 0.01, "typos": 0.01}, max_steps=5
    )
    with pytest.raises(ConfigError, match=r"'ood' gets none of 5 steps at a share of 0.01; 103 would do"):
        trainer.train()
    assert not (tmp_path / "steps.jsonl").exists()
    assert len(json.dumps(trainer.pairs_seen)) > 0

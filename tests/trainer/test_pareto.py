"""ParetoTrainer in the real loop: joint batches, accumulation, resume, bad input, a plain trainer's equivalence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from torch import nn
from transformers import TrainerCallback

from mogrid import MGDA, FixedWeights, ParetoTrainer, ParetoTrainingArguments
from mogrid.errors import ConfigError, DataError
from mogrid.objectives import FGM, DomainDRO, InfoNCE, PerturbationConsistency, SmoothWorstDomain
from mogrid.retrieval.models import ROUTES, build_retriever
from mogrid.solvers import NonFiniteLossError, SolverError
from tests.trainer.by_hand import QUIET


def pairs(texts, part=slice(None)) -> Dataset:
    chosen = texts[part]
    return Dataset.from_dict(
        {"query": [q for q, _ in chosen], "document": [d for _, d in chosen], "group": list(range(len(chosen)))}
    )


def three(texts) -> dict[str, Dataset]:
    base = pairs(texts)
    return {
        "effectiveness": base,
        "ood": base.select(range(40)).add_column("label", [i % 2 for i in range(40)]),
        "adversarial": base.add_column("perturbed", [q[1:] for q in base["query"]]).select_columns(
            ["query", "document", "perturbed", "group"]
        ),
    }


def losses(model) -> dict[str, nn.Module]:
    contrastive = InfoNCE(model)
    return {
        "effectiveness": contrastive,
        "ood": SmoothWorstDomain(contrastive),
        "adversarial": PerturbationConsistency(model),
    }


def arguments(folder: Path, **kwargs) -> ParetoTrainingArguments:
    settings = {
        **QUIET,
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "max_steps": 6,
        "learning_rate": 1e-3,
        "router_mapping": ROUTES,
    } | kwargs
    return ParetoTrainingArguments(**settings)


def steps_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def test_every_step_is_logged_with_losses_weights_norms_and_cosines(model, texts, tmp_path) -> None:
    trainer = ParetoTrainer(
        model=model, args=arguments(tmp_path), train_dataset=three(texts), loss=losses(model), solver="mgda"
    )
    trainer.train()
    steps = steps_of(tmp_path)
    assert [s["step"] for s in steps] == [1, 2, 3, 4, 5, 6]
    for name in ("effectiveness", "ood", "adversarial"):
        for key in (f"loss/{name}", f"weight/{name}", f"gradient_norm/{name}"):
            assert all(isinstance(s[key], float) for s in steps)
    assert all(-1 <= s["cosine/effectiveness/ood"] <= 1 for s in steps)
    assert all(abs(sum(v for k, v in s.items() if k.startswith("weight/")) - 1) < 1e-9 for s in steps)
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 6
    assert logged[2]["weight/ood"] == pytest.approx(steps[2]["weight/ood"])
    assert logged[2]["loss"] == pytest.approx(
        sum(steps[2][f"weight/{n}"] * steps[2][f"loss/{n}"] for n in trainer.objectives), rel=1e-4
    )


@pytest.mark.parametrize("towers", [1, 2])
def test_training_lowers_every_loss(tokenizer, texts, tmp_path, towers) -> None:
    model = build_retriever("1x32", tokenizer, towers=towers, dropout=0.0)
    trainer = ParetoTrainer(
        model=model,
        args=arguments(tmp_path, max_steps=60, learning_rate=5e-3),
        train_dataset=three(texts),
        loss=losses(model),
        solver={"name": "fixed"},
    )
    trainer.train()
    steps = steps_of(tmp_path)
    for name in trainer.objectives:
        first = sum(s[f"loss/{name}"] for s in steps[:5])
        last = sum(s[f"loss/{name}"] for s in steps[-5:])
        assert last < 0.8 * first, name


def test_one_objective_equals_sentence_transformers_own_trainer(tokenizer, texts, tmp_path) -> None:
    """With one objective and weight 1 the parameters are those of the trainer we extend."""
    data = Dataset.from_dict({"query": [q for q, _ in texts], "document": [d for _, d in texts]})
    results = []
    for i, multi in enumerate((False, True)):
        model = build_retriever("1x32", tokenizer, dropout=0.0)
        args = SentenceTransformerTrainingArguments(
            output_dir=str(tmp_path / str(i)), max_steps=5, per_device_train_batch_size=len(data), report_to="none",
            disable_tqdm=True, use_cpu=True, save_strategy="no", learning_rate=1e-3,
        )  # one batch holds all the data, so that the order of sampling does not matter  # fmt: skip
        loss = MultipleNegativesRankingLoss(model)
        if multi:
            trainer = ParetoTrainer(
                model=model, args=args, train_dataset={"only": data}, loss={"only": loss}, solver=MGDA()
            )
        else:
            trainer = SentenceTransformerTrainer(model=model, args=args, train_dataset=data, loss=loss)
        trainer.train()
        results.append(torch.cat([p.detach().flatten() for n, p in model.named_parameters() if "pooler" not in n]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


def test_accumulation_sees_the_union_of_micro_batches(tokenizer, texts, tmp_path) -> None:
    """Two micro-batches of a loss that is a mean over rows give the step of one batch twice the size."""

    class RowMean(nn.Module):
        def __init__(self, model, shift):
            super().__init__()
            self.model, self.shift = model, shift

        def forward(self, features, labels):
            return (self.model(features[0])["sentence_embedding"] - self.shift).square().mean()

    data = pairs(texts[:16]).remove_columns("group")
    grads = []
    for i, (batch, accumulate) in enumerate(((16, 1), (8, 2))):
        model = build_retriever("1x32", tokenizer, dropout=0.0)
        args = arguments(
            tmp_path / str(i), per_device_train_batch_size=batch, gradient_accumulation_steps=accumulate, max_steps=1
        )
        trainer = ParetoTrainer(
            model=model, args=args, train_dataset={"a": data, "b": data},
            loss={"a": RowMean(model, 1.0), "b": RowMean(model, -1.0)}, solver="mgda",
        )  # fmt: skip
        trainer.train()
        grads.append(steps_of(tmp_path / str(i))[0])
    assert grads[0].keys() == grads[1].keys()
    for key in grads[0]:
        assert grads[0][key] == pytest.approx(grads[1][key], rel=1e-3, abs=1e-5), key


def test_resume_gives_the_same_bits(tokenizer, texts, tmp_path) -> None:
    """Dropout on, shuffles, a solver and losses with state: stopped and resumed equals undisturbed."""

    class StopAt(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 4:
                control.should_save = control.should_training_stop = True

    def train(folder, resume=None, callbacks=()):
        model = build_retriever("1x32", tokenizer, dropout=0.1, seed=1)
        trainer = ParetoTrainer(
            model=model,
            args=arguments(folder, max_steps=17, per_device_train_batch_size=8),
            train_dataset=three(texts),
            loss=losses(model) | {"ood": DomainDRO(InfoNCE(model), domains=2, step_size=0.3)},
            solver={"name": "mgda", "normalise": "loss+"},
            callbacks=list(callbacks),
        )
        trainer.train(resume_from_checkpoint=resume)
        weights: Any = trainer.loss["ood"].weights
        assert not torch.allclose(weights, torch.full((2,), 0.5))
        return model.state_dict() | {"domains": weights}, (folder / "steps.jsonl").read_text()

    whole, whole_steps = train(tmp_path / "whole")
    train(tmp_path / "parts", callbacks=[StopAt()])
    parts, parts_steps = train(tmp_path / "parts", resume=str(tmp_path / "parts" / "checkpoint-4"))
    assert whole_steps == parts_steps
    for key, value in whole.items():
        assert torch.equal(value, parts[key]), key


def test_cached_loss_and_evaluation_go_on_working(model, texts, tmp_path) -> None:
    data = pairs(texts).remove_columns("group")
    trainer = ParetoTrainer(
        model=model,
        args=arguments(tmp_path, eval_strategy="steps", eval_steps=3, max_grad_norm=0.5),
        train_dataset={"cached": data, "plain": data},
        eval_dataset={"cached": data.select(range(8)), "plain": data.select(range(8))},
        loss={
            "cached": CachedMultipleNegativesRankingLoss(model, mini_batch_size=4),
            "plain": MultipleNegativesRankingLoss(model),
        },
        solver=MGDA(),
    )
    trainer.train()
    assert any("eval_plain_loss" in entry for entry in trainer.state.log_history)
    assert all(s["gradient_norm/cached"] > 0 for s in steps_of(tmp_path))


def test_fgm_objective_and_bf16(model, texts, tmp_path) -> None:
    data = pairs(texts)
    trainer = ParetoTrainer(
        model=model,
        args=arguments(tmp_path, bf16=True, max_steps=3),
        train_dataset={"effectiveness": data, "adversarial": data},
        loss={"effectiveness": InfoNCE(model), "adversarial": FGM(InfoNCE(model), 0.02)},
        solver="mgda",
    )
    trainer.train()
    assert len(steps_of(tmp_path)) == 3


def test_zero_weight_objective_is_never_loaded(model, texts, tmp_path) -> None:
    trainer = ParetoTrainer(
        model=model,
        args=arguments(tmp_path, max_steps=2),
        train_dataset=three(texts),
        loss=losses(model),
        solver=FixedWeights({"effectiveness": 1.0, "ood": 0.0, "adversarial": 0.0}),
    )
    assert set(next(iter(trainer.get_train_dataloader()))) == {"effectiveness"}
    trainer.train()
    assert "loss/ood" not in steps_of(tmp_path)[0]


def test_batch_sizes_by_objective_and_recycling(model, texts, tmp_path) -> None:
    data = three(texts)
    trainer = ParetoTrainer(
        model=model,
        args=arguments(tmp_path, objective_batch_sizes={"ood": 4}),
        train_dataset=data,
        loss=losses(model),
        solver="mgda",
    )
    batches = list(trainer.get_train_dataloader())
    assert len(batches) == 12  # the longest objective: 96 rows of 8; the shorter one starts again
    assert {b["effectiveness"]["query_input_ids"].shape[0] for b in batches} == {8}
    assert {b["ood"]["query_input_ids"].shape[0] for b in batches} == {4}


def test_saved_model_loads_with_sentence_transformers(tokenizer, texts, tmp_path) -> None:
    model = build_retriever("1x32", tokenizer, towers=2, dropout=0.0)
    trainer = ParetoTrainer(
        model=model, args=arguments(tmp_path), train_dataset=three(texts), loss=losses(model), solver="mgda"
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    loaded = SentenceTransformer(str(tmp_path / "final"), device="cpu")
    torch.testing.assert_close(
        torch.tensor(loaded.encode_query("river stone")), torch.tensor(model.encode_query("river stone"))
    )


class Broken(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, features, labels):
        return self.model(features[0])["sentence_embedding"].sum() * float("nan")


def test_nan_loss_stops_before_the_optimiser_and_names_the_objective(model, texts, tmp_path) -> None:
    before = {k: v.clone() for k, v in model.state_dict().items()}
    trainer = ParetoTrainer(
        model=model,
        args=arguments(tmp_path),
        train_dataset={"fine": pairs(texts), "sick": pairs(texts)},
        loss={"fine": InfoNCE(model), "sick": Broken(model)},
        solver="mgda",
    )
    with pytest.raises(NonFiniteLossError, match="sick"):
        trainer.train()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"loss": lambda m: {"effectiveness": InfoNCE(m)}}, ConfigError, "'ood' has a dataset but no loss"),
        ({"train_dataset": lambda t: {"effectivness": pairs(t)}}, ConfigError, "did you mean 'effectiveness'"),
        ({"train_dataset": lambda t: {}}, ConfigError, "names no objective"),
        ({"train_dataset": lambda t: pairs(t)}, ConfigError, "dict of objective"),
        (
            {"train_dataset": lambda t: three(t) | {"ood": pairs(t).select([])}},
            DataError,
            "'ood': its dataset has no rows",
        ),
        ({"solver": "mgdaa"}, SolverError, "mgda"),
        (
            {"solver": {"name": "fixed", "weights": {"effectiveness": 0.5, "ood": 0.1, "adversarial": 0.1}}},
            SolverError,
            "0.7",
        ),
        ({"solver": {"name": "fixed", "weights": {"effectiveness": 0.5, "odd": 0.5}}}, SolverError, "ood"),
        (
            {"solver": {"name": "pareto_target", "preference": {"effectiveness": 1, "ood": 0, "adversarial": 1}}},
            SolverError,
            "ood",
        ),
    ],
)
def test_bad_input_is_one_line_that_names_the_place(model, texts, tmp_path, change, error, message) -> None:
    settings = {"train_dataset": three(texts), "loss": losses(model), "solver": "mgda"}
    for key, value in change.items():
        settings[key] = value(model if key == "loss" else texts) if callable(value) else value
    with pytest.raises(error, match=message) as caught:
        ParetoTrainer(model=model, args=arguments(tmp_path), **settings)
    assert "\n" not in str(caught.value)


def test_too_few_groups_for_a_batch(model, texts, tmp_path) -> None:
    same = pairs(texts).remove_columns("group").add_column("group", [i % 3 for i in range(96)])
    trainer = ParetoTrainer(
        model=model,
        args=arguments(tmp_path),
        train_dataset={"one": same},
        loss={"one": InfoNCE(model)},
        solver="mgda",
    )
    with pytest.raises(DataError, match="'one': no 8 of its 96 rows can share a batch"):
        trainer.train()

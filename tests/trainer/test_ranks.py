"""ParetoTrainer on several processes, as torchrun starts them: one problem, solved alike on all, that of one process."""

from __future__ import annotations

import os
import socket

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import TrainerCallback

from mogrid import ParetoTrainer
from mogrid.retrieval.models import build_retriever
from tests.processes import on_ranks
from tests.trainer.test_pareto import arguments


class Apart(nn.Module):
    """A mean over rows, so that the loss of a union is the mean of its parts'; no two objectives agree."""

    def __init__(self, model, sign: float) -> None:
        super().__init__()
        self.model = model
        self.sign = sign

    def forward(self, features, labels):
        query, document = (self.model(column)["sentence_embedding"] for column in features)
        return (query - self.sign * document).square().mean(dim=1).mean() + self.sign * query[:, 0].mean()


def train(tokenizer, texts, folder, batch_size: int, gradients, **division) -> torch.Tensor:
    torch.manual_seed(0)
    model = build_retriever("1x32", tokenizer, dropout=0.0, seed=0)
    rows = Dataset.from_dict({"query": [q for q, _ in texts], "document": [d for _, d in texts]})
    trainer = ParetoTrainer(
        model=model,
        args=arguments(
            folder, per_device_train_batch_size=batch_size, max_steps=5, router_mapping={}, gradients=gradients
        ),
        train_dataset={"near": rows.select(range(48)), "far": rows.select(range(48, 96))},
        loss={"near": Apart(model, 0.5), "far": Apart(model, -1.0)},
        **(division or {"solver": {"name": "mgda", "normalise": "l2"}}),
    )
    trainer.train()
    if division:
        assert trainer.pairs_seen == {"near": 24, "far": 16}
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    return torch.cat([weights, torch.tensor(list(trainer.last_step.weights.values()))])


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "gradients", "division"),
    [
        (2, "exact", {}),
        (4, "exact", {}),
        (2, {"mode": "sketch", "size": 400}, {}),
        (2, "exact", {"mix": {"near": 0.6, "far": 0.4}, "spend": "steps"}),
    ],
)
def test_all_ranks_hold_the_weights_of_one_process_on_the_union(
    tokenizer, texts, tmp_path, world, gradients, division
) -> None:
    port = free_port()

    def task(rank: int) -> torch.Tensor:
        torchrun = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        os.environ |= {key: str(value) for key, value in torchrun.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        return train(tokenizer, texts, tmp_path / str(rank), 8 // world, gradients, **division)

    ranks = on_ranks(world, task, init=False)
    assert all(torch.equal(ranks[0], rank) for rank in ranks)

    def single(rank: int) -> torch.Tensor:
        return train(tokenizer, texts, tmp_path / "alone", 8, gradients, **division)

    (alone,) = on_ranks(1, single, init=False)
    torch.testing.assert_close(ranks[0], alone, rtol=2e-3, atol=2e-5)
    untrained = build_retriever("1x32", tokenizer, dropout=0.0, seed=0)
    start = torch.cat([p.detach().flatten() for p in untrained.parameters()])
    assert (start - alone[: len(start)]).abs().max() > 100 * 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("division", [{"solver": "mgda"}, {"mix": {"near": 0.6, "far": 0.4}, "spend": "steps"}])
def test_ranks_go_on_in_the_middle_of_a_later_epoch(tokenizer, texts, tmp_path, division) -> None:
    """transformers does not tell a sampler behind skipped batches on several ranks which epoch it is in."""

    class StopAt(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 15:
                control.should_save = control.should_training_stop = True

    def whole_and_parts(rank: int) -> torch.Tensor:
        torchrun = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        os.environ |= {key: str(value) for key, value in torchrun.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        found = []
        for name, callbacks, resume in (("whole", [], None), ("parts", [StopAt()], None), ("parts", [], 15)):
            model = build_retriever("1x32", tokenizer, dropout=0.0, seed=0)
            rows = Dataset.from_dict({"query": [q for q, _ in texts], "document": [d for _, d in texts]})
            folder = tmp_path / name  # shared: rank 0 writes
            trainer = ParetoTrainer(
                model=model,
                args=arguments(folder, per_device_train_batch_size=4, max_steps=18, router_mapping={}),
                train_dataset={"near": rows.select(range(48)), "far": rows.select(range(48, 96))},
                loss={"near": Apart(model, 0.5), "far": Apart(model, -1.0)},
                callbacks=callbacks,
                **division,
            )
            trainer.train(resume_from_checkpoint=None if resume is None else str(folder / f"checkpoint-{resume}"))
            found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        return torch.stack([found[0], found[2]])

    port = free_port()
    for whole, parts in on_ranks(2, whole_and_parts, init=False):
        assert torch.equal(whole, parts)

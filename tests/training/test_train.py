"""`mogrid train`: one file in, a model that others can load out, whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import yaml
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from mogrid.cli import main
from mogrid.files import latest_checkpoint, seal
from mogrid.flops import non_embedding_parameters
from mogrid.gradients.engine import GradientEngine
from mogrid.retrieval import freezing
from mogrid.retrieval.models import build_retriever
from mogrid.training.fit import Interrupted
from mogrid.training.recipe import read_recipe
from mogrid.training.run import materials
from mogrid.training.run import run as make_run
from mogrid.training.run import trained as train_model
from tests.training.tiny import settings, write_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    path = write_run(folder, evaluation={"domains": "data/domains.yaml"})
    assert main(["train", str(path)]) == 0
    return folder / "out"


def test_the_model_loads_and_retrieves(trained) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(trained / "model"), device="cpu")
    vectors = model.encode(["bada gi", "tora"])
    assert vectors.shape == (2, 32)
    assert not (trained / "training").exists()


def test_the_record_and_the_card_say_what_was_done(trained) -> None:
    record = json.loads((trained / "run.json").read_text())
    assert record["steps"] == 12
    flops = record["flops"]
    assert flops["total"] == pytest.approx(flops["forward"] + flops["backward"] + flops["crafting"])
    assert sum(flops["by"].values()) == pytest.approx(flops["total"])
    assert record["pairs"] == dict.fromkeys(settings()["objectives"], 48)
    assert record["objectives"]["typos"].keys() == {"ce", "ndcg"}
    steps = [json.loads(line) for line in (trained / "steps.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == list(range(1, 13))
    card = (trained / "model" / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert "mogrid" in head["tags"]
    for name in settings()["objectives"]:
        assert f"| {name} |" in card
    (home,) = (r for r in record["results"] if (r["domain"], r["condition"]) == ("home", "clean"))
    assert f"| model | {home['means']['ndcg']:.3f}".replace("0.", ".") in card
    assert "| base | ." in card
    assert "| BM25 | ." in card
    for figure in ("training.png", "results.png"):
        assert f"({figure})" in card
        assert (trained / "model" / figure).read_bytes().startswith(b"\x89PNG")


def test_a_finished_training_is_left_alone(trained, capsys) -> None:
    before = (trained / "model" / "model.safetensors").stat().st_mtime_ns
    assert main(["train", str(trained.parent / "run.yaml"), "--json"]) == 0
    captured = capsys.readouterr()
    assert "finished already" in captured.err
    assert json.loads(captured.out)["steps"] == 12
    assert (trained / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_other_settings_do_not_continue_it(trained, capsys) -> None:
    assert main(["train", str(trained.parent / "run.yaml"), "--set", "training.learning_rate=0.02"]) == 2
    assert "training.learning_rate (0.01, now 0.02)" in capsys.readouterr().err


def test_a_solver_is_swapped_by_one_key(tmp_path, capsys) -> None:
    path = write_run(tmp_path, solver="fixed")
    assert main(["train", str(path), "--set", "solver=upgrad", "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["solver"] == "upgrad"


def test_the_printed_configuration_is_the_same_configuration(tmp_path, capsys) -> None:
    path = write_run(tmp_path)
    assert main(["train", str(path), "--print-config"]) == 0
    first = capsys.readouterr().out
    path.write_text(first)
    assert main(["train", str(path), "--print-config"]) == 0
    assert capsys.readouterr().out == first


def test_the_schema_accepts_what_the_program_accepts(capsys) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert main(["train", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.validate(settings(), schema)
    with pytest.raises(jsonschema.ValidationError, match="stepz"):
        jsonschema.validate(settings(training={"stepz": 3}), schema)


def test_any_sentence_transformer_goes_on_from_its_weights(trained, tmp_path) -> None:
    path = write_run(
        tmp_path,
        model={"path": str(trained / "model"), "towers": 2},
        solver={"name": "annealed", "path": [{"a": 1, "b": 0}, {"a": 0, "b": 1}], "steps": [0, 3]},
        objectives={
            "a": {"datasets": [{"path": "home"}], "negatives": 1},
            "b": {"datasets": [{"path": "east"}], "loss": {"name": "fgm", "epsilon": 0.05}},
        },
        training={"budget": 3.6e8, "batch_size": 4, "batch_sizes": {"b": 2}, "accumulation": 2, "gradients": "exact"},
    )
    assert main(["train", str(path)]) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["flops"]["total"] == pytest.approx(3.6e8, rel=0.2)
    from sentence_transformers import SentenceTransformer

    assert SentenceTransformer(str(tmp_path / "out" / "model"), device="cpu").encode("x").shape == (32,)


def test_a_models_own_prompts_and_length_are_trained_with(trained, tmp_path) -> None:
    from sentence_transformers import SentenceTransformer

    from mogrid.training import read_recipe
    from mogrid.training.fit import _prompts, build_base

    model = SentenceTransformer(str(trained / "model"), device="cpu")
    model.prompts = {"query": "ask: ", "document": "tell: "}
    model.save_pretrained(str(tmp_path / "prompted"), create_model_card=False)
    path = write_run(tmp_path, model={"path": "prompted"})
    settings_of = read_recipe(path)
    loaded = build_base(settings_of, {}, tmp_path)
    assert loaded.max_seq_length == 16
    prompts = {"query": "ask: ", "perturbed": "ask: ", "document": "tell: ", "negative_1": "tell: "}
    rows = {"query": ["q"], "document": ["d"], "negative_1": ["n"]}
    assert _prompts({"home": Dataset.from_dict(rows)}, loaded) == prompts
    given = read_recipe(path, ["model.query_prompt='find: '", "model.max_length=8"])
    loaded = build_base(given, {}, tmp_path)
    assert (loaded.max_seq_length, loaded.prompts["query"]) == (8, "find: ")


def test_what_a_tracker_writes_is_kept(tmp_path) -> None:
    pytest.importorskip("tensorboard")
    path = write_run(tmp_path, training={"steps": 6, "batch_size": 4, "report_to": ["tensorboard"]})
    assert main(["train", str(path)]) == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = (tmp_path / "out" / "runs").rglob("events*")
    found = EventAccumulator(str(events)).Reload().Tags()["scalars"]
    assert {"train/loss", "train/loss/ood", "train/weight/typos"} <= set(found)


def test_paths_are_relative_to_the_file_or_to_home(tmp_path, monkeypatch) -> None:
    from mogrid.training.library import located

    monkeypatch.setenv("HOME", "/home/me")
    assert located(tmp_path, "data") == tmp_path / "data"
    assert located(tmp_path, "../data") == tmp_path.parent / "data"
    assert located(tmp_path, "~/beir") == Path("/home/me/beir")
    assert located(tmp_path, "/beir") == Path("/beir")


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_and_the_same_bits_at_the_end(tmp_path) -> None:
    training = {"steps": 200, "batch_size": 4, "learning_rate": 1.0e-2, "checkpoints": 2}
    path = write_run(tmp_path, training=training)
    command = [sys.executable, "-m", "mogrid.cli", "train", str(path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "HF_HUB_OFFLINE": "1"}, text=True)
    steps = tmp_path / "out" / "training" / "steps.jsonl"
    while not (steps.is_file() and len(steps.read_text().splitlines()) > 20):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGSTOP)  # it cannot end in the meantime, however long that takes
    held = main(["train", str(path)])  # while another process is at it
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=600)
    assert held == 2
    assert process.returncode == 3, said
    assert "the same command continues" in said
    last = latest_checkpoint(tmp_path / "out" / "training")
    assert last is not None
    assert 20 < int(last[0].name.rpartition("-")[2]) < 200
    assert main(["train", str(path)]) == 0
    assert main(["train", str(path), "--set", "output=whole"]) == 0
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("out", "whole")]
    assert weights[0] == weights[1]
    assert len((tmp_path / "out" / "steps.jsonl").read_text().splitlines()) == 200


def test_a_checkpoint_that_lost_a_part_is_not_used(tmp_path) -> None:
    for step in (5, 10):
        folder = tmp_path / f"checkpoint-{step}"
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "weights").write_bytes(b"12345")
        seal(folder, flops={"forward": float(step)})
    assert latest_checkpoint(tmp_path) == (tmp_path / "checkpoint-10", {"flops": {"forward": 10.0}})
    (tmp_path / "checkpoint-10" / "inner" / "weights").write_bytes(b"123")
    assert latest_checkpoint(tmp_path) == (tmp_path / "checkpoint-5", {"flops": {"forward": 5.0}})
    assert not (tmp_path / "checkpoint-10").exists()
    (tmp_path / "checkpoint-5" / "sealed.json").write_text("{")
    assert latest_checkpoint(tmp_path) is None
    (tmp_path / "checkpoint-best").mkdir()  # not ours to touch
    assert latest_checkpoint(tmp_path) is None
    assert (tmp_path / "checkpoint-best").is_dir()


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own, and a way to change it; where this process may not mount one, the test is skipped."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no right to mount a disk here")

    yield place, mount
    subprocess.run(["umount", str(place)], capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["200k", "450k", "1000k"])  # within a checkpoint, between two, at the end
def test_a_full_disk_costs_nothing_but_time(disk, tmp_path, capsys, size) -> None:
    place, mount = disk
    path = write_run(tmp_path)
    mount(f"size={size}")
    command = ["train", str(path), "--set", f"output={place}/out"]
    assert main(command) == 2
    err = capsys.readouterr().err
    assert f"mogrid: {place}/out: the disk is full; make room, and the same command goes on" in err
    assert "Traceback" not in err
    mount("remount,size=8m")
    assert main(command) == 0
    assert main(["train", str(path), "--set", "output=whole"]) == 0
    weights = [(out / "model" / "model.safetensors").read_bytes() for out in (place / "out", tmp_path / "whole")]
    assert weights[0] == weights[1]


def test_a_disk_that_cannot_be_written(disk, tmp_path, capsys) -> None:
    place, mount = disk
    mount("size=1m,ro")
    assert main(["train", str(write_run(tmp_path)), "--set", f"output={place}/out"]) == 2
    err = capsys.readouterr().err
    assert "Read-only file system" in err
    assert err.count("\n") == 1


def test_data_that_vanish_are_named_and_leave_the_checkpoint(tmp_path, capsys) -> None:
    path = write_run(tmp_path)
    checkpoint = tmp_path / "out" / "training" / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    seal(checkpoint, seconds=0.0)
    (tmp_path / "data").rename(tmp_path / "gone")
    assert main(["train", str(path)]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    assert latest_checkpoint(tmp_path / "out" / "training") is not None


@pytest.mark.parametrize("towers", [1, 2])
def test_adapters_go_on_from_a_checkpoint_and_are_folded(tmp_path, tokenizer, towers) -> None:
    build_retriever("2x32", tokenizer).save_pretrained(str(tmp_path / "base"), create_model_card=False)
    model = {"path": "base", "layers": [1], "lora": {"rank": 2}, "towers": towers}
    recipe = read_recipe(write_run(tmp_path, model=model))
    given = materials(recipe, tmp_path)
    calls = iter([False] * 5 + [True] * 20)
    with pytest.raises(Interrupted):
        train_model(given, tmp_path / "cut", tmp_path, stop=lambda: next(calls))
    took = [train_model(given, tmp_path / name, tmp_path) for name in ("cut", "whole")]
    assert took[0]["flops"] == took[1]["flops"]
    found = [SentenceTransformer(str(tmp_path / name / "model"), device="cpu") for name in ("cut", "whole")]
    states = [found[0].state_dict(), found[1].state_dict(), given.build().state_dict()]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    frozen = {
        name for name, value in states[0].items() if name in states[2] and not torch.equal(value, states[2][name])
    }
    assert not frozen  # what the base has under its own name was frozen
    assert any(".lora_" in name for name in states[2])
    assert not any("lora" in name for name in states[0])
    assert took[0]["parameters"] == non_embedding_parameters(found[0])
    half = make_run(
        given, tmp_path / "half", kind="merged", parents={"whole": 0.5, "": 0.5},
        models=lambda name: tmp_path / name / "model",
    )  # fmt: skip
    assert half.parents == {"whole": 0.5, "": 0.5}
    merged = SentenceTransformer(str(tmp_path / "half" / "model"), device="cpu").state_dict()
    base = SentenceTransformer(str(tmp_path / "base"), device="cpu").state_dict()
    query = next(name for name in merged if name.endswith("layer.0.attention.self.query.weight"))
    kept = base["0.model.encoder.layer.1.attention.self.query.weight"]
    torch.testing.assert_close(merged[query], (states[1][query] + kept) / 2)
    assert not torch.equal(merged[query], kept)


@pytest.mark.parametrize("towers", [1, 2])
def test_frozen_layers_are_remembered_to_the_same_bits(tmp_path, tokenizer, towers, monkeypatch) -> None:
    build_retriever("3x32", tokenizer).save_pretrained(str(tmp_path / "base"), create_model_card=False)
    given = materials(read_recipe(write_run(tmp_path, model={"path": "base", "freeze": 2, "towers": towers})), tmp_path)
    calls = iter([False] * 5 + [True] * 20)
    with pytest.raises(Interrupted):
        train_model(given, tmp_path / "cut", tmp_path, stop=lambda: next(calls))
    assert freezing._KNOWN
    monkeypatch.setattr(freezing, "_KNOWN", type(freezing._KNOWN)())  # as in the process that goes on
    train_model(given, tmp_path / "cut", tmp_path)
    records = [make_run(given, tmp_path / name) for name in ("whole", "again")]  # the second knows all texts
    found = [
        SentenceTransformer(str(tmp_path / name / "model"), device="cpu").state_dict() for name in ("cut", "whole")
    ]
    base = given.build().state_dict()
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    changed = {name for name, value in found[0].items() if not torch.equal(value, base[name])}
    assert changed
    assert all(".layer.2." in name for name in changed)
    assert [r.queries for r in records[0].results] == [r.queries for r in records[1].results]
    assert records[0].flops == records[1].flops


def test_a_thinned_model_is_healed_once_and_its_cost_stated(tmp_path, tokenizer, monkeypatch) -> None:
    monkeypatch.setenv("MOGRID_CACHE", str(tmp_path / "cache"))
    build_retriever("2x32", tokenizer, normalise=True).save_pretrained(str(tmp_path / "whole"), create_model_card=False)
    model = {"path": "whole", "layers": 1, "heal": {"texts": 100, "batch_size": 16}}
    given = materials(read_recipe(write_run(tmp_path, model=model)), tmp_path)
    said: list[str] = []
    base = make_run(given, tmp_path / "base", kind="base", progress=lambda share, word: said.append(word))
    assert "healing 100%" in said
    found = make_run(given, tmp_path / "run", progress=lambda share, word: said.append(word))
    assert said.count("healing 100%") == 1
    assert found.flops["healing"] == base.flops["healing"] > 0
    assert found.seconds["healing"] == base.seconds["healing"]
    assert found.flops["total"] == pytest.approx(sum(found.flops[kind] for kind in ("forward", "backward", "crafting")))
    assert found.model == "whole, 1 layer, healed"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "spend": "rows",
            "solver": "fixed",
            "training": {**settings()["training"], "batch_size": 8, "accumulation": 2},
        },
        {"training": {**settings()["training"], "accumulation": 2}},
        {"objectives": {**settings()["objectives"], "base": {"datasets": [{"path": "home"}], "loss": "l2_base"}}},
    ],
    ids=["mgda", "rows", "accumulated", "beside a dense one"],
)
def test_sparse_gradients_of_embeddings_train_the_same(changes, tmp_path, monkeypatch) -> None:
    recipe = read_recipe(write_run(tmp_path, **changes))
    given, seen, states = materials(recipe, tmp_path), [], []
    taken = GradientEngine.accumulate

    def watched(engine, *args, **named):
        report = taken(engine, *args, **named)
        seen.append(any(p.grad is not None and p.grad.is_sparse for p in engine.parameters))
        return report

    monkeypatch.setattr(GradientEngine, "accumulate", watched)
    for name in ("sparse", "dense"):
        if name == "dense":
            monkeypatch.setattr("mogrid.training.fit.sparse_embeddings", lambda model: nullcontext())
        train_model(given, tmp_path / name, tmp_path)
        states.append(SentenceTransformer(str(tmp_path / name / "model"), device="cpu").state_dict())
    assert any(seen[: len(seen) // 2]) is ("base" not in recipe.objectives)
    assert not any(seen[len(seen) // 2 :])
    for key, value in states[0].items():
        torch.testing.assert_close(value, states[1][key], rtol=1e-4, atol=1e-4, msg=key)

"""`mogrid train` in a folder that holds a training: what may have changed since, and what may not."""

from __future__ import annotations

import shutil

from mogrid.attacks.registry import ATTACKS
from mogrid.attacks.typos import Typos
from mogrid.cli import main
from mogrid.files import seal
from mogrid.training.judging import Judging
from tests.training.tiny import write_run


def test_a_training_does_not_go_on_with_other_data(tmp_path, capsys, monkeypatch) -> None:
    path = write_run(tmp_path, objectives={"one": {"datasets": "home"}}, solver="fixed")
    shutil.copytree(tmp_path / "data", tmp_path / "data2")
    corpus = tmp_path / "data2" / "home" / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace('"text": "', '"text": "other '))
    elsewhere = ["train", str(path), "--set", "data=data2"]
    with monkeypatch.context() as patch:
        patch.setattr(Judging, "judge", lambda *given, **more: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(["train", str(path)]) == 3  # killed when it was trained
    checkpoint = tmp_path / "cut" / "training" / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    seal(checkpoint, seconds=0.0)
    shutil.copy(tmp_path / "out" / "data.json", tmp_path / "cut")
    for out in ("cut", "out"):
        capsys.readouterr()
        assert main([*elsewhere, "--set", f"output={out}"]) == 2
        assert f"{out} holds a training on other data (fingerprint " in capsys.readouterr().err
    assert main(["train", str(path)]) == 0
    capsys.readouterr()
    assert main(elsewhere) == 2  # nor is one that is finished that of other data
    assert "out holds a training on other data (fingerprint " in capsys.readouterr().err


def test_a_perturbation_that_is_none_is_said_before_the_training_and_can_be_replaced_behind_it(
    tmp_path, capsys, monkeypatch
) -> None:
    class Idle(Typos):
        def perturb(self, texts, victim, rng):
            return list(texts)

    monkeypatch.setitem(ATTACKS, "idle", ("queries", Idle, "nothing"))
    evaluation = {"perturb": ["idle"]}
    path = write_run(tmp_path, objectives={"one": {"datasets": "home"}}, solver="fixed", evaluation=evaluation)
    assert main(["train", str(path)]) == 2
    assert "changes 0 of 30 texts" in capsys.readouterr().err
    assert not (tmp_path / "out" / "trained.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Judging, "rehearse", lambda *given, **more: None)
        assert main(["train", str(path)]) == 2
    weights = (tmp_path / "out" / "model" / "model.safetensors").stat().st_mtime_ns
    assert main(["train", str(path), "--set", "training.learning_rate=0.02"]) == 2
    assert main(["train", str(path), "--set", "evaluation.perturb=[typos]"]) == 0
    assert (tmp_path / "out" / "model" / "model.safetensors").stat().st_mtime_ns == weights
    capsys.readouterr()
    assert main(["train", str(path), "--set", "evaluation.perturb=[]"]) == 2
    assert "another evaluation.perturb (['typos'], now [])" in capsys.readouterr().err

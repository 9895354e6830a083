"""What a recipe cannot say: one line that names the place or the nearest word, exit code 2, and nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mogrid.cli import main
from tests.training.tiny import settings, write_data


def judged(on: Any, **more: Any) -> dict[str, Any]:
    return {"objectives": {"home": {"datasets": "home"}, "x": {"datasets": "east", "judged": on, **more}}}


CASES: list[tuple[dict[str, Any], str]] = [
    ({"mix": {"effectivness": 0.5, "ood": 0.5}}, "mix: no objective 'effectivness'; did you mean 'effectiveness'?"),
    ({"mix": {"effectiveness": 0.5, "ood": 0.2}}, "mix: the shares sum to 0.7, not 1"),
    ({"mix": {"effectiveness": 0.9, "ood": 0.1}}, "objective 'ood' gets 1 of a batch's 6 rows at a share of 0.1"),
    (judged("south/test"), "objective 'x': judged on 'south/test', whose role is test"),
    (judged("home/test"), "objective 'x': judged on 'home/test', whose role is test"),
    (judged("east/train"), "objective 'x': judged on 'east/train', whose role is train"),
    (judged("nort/dev"), "objective 'x': no file or folder 'nort'"),
    (judged("north/dve"), "judged on 'north/dve': its split of role select is 'dev'"),
    (judged("north/test"), "judged on 'north/test': its split of role select is 'dev'"),
    (judged({"on": "north/dev", "ovr": "mean"}), "unknown key 'objectives.x.judged.ovr'; did you mean 'over'?"),
    (judged("north/dev", loss="infoncee"), "unknown loss 'infoncee'; did you mean 'infonce'?"),
    ({"model": {"path": "all-MiniLM-L6-v2", "layers": 9}}, "layers: 9 cannot be kept, the model has 6"),
    ({"model": {"path": "all-MiniLM-L6-v2", "layers": [1, 7]}}, "layers: there is no layer 7, the model has 6"),
    ({"model": {"path": "nobody/nothing"}}, "'nobody/nothing': no such folder, and no network to look it up"),
    ({"model": {"path": "./nothing"}}, "model './nothing': no such folder"),
    ({"model": {"path": "all-MiniLM-L6-v2", "layer": 2}}, "unknown key 'model.layer'; did you mean 'layers'?"),
    ({"trainig": {"pairs": 72}}, "unknown key 'trainig'; did you mean 'training'?"),
    ({"training": {"pairs": 72, "batch_sise": 6}}, "unknown key 'training.batch_sise'; did you mean 'batch_size'?"),
    ({"objectives": {"a": {"dataset": "home"}}}, "unknown key 'objectives.a.dataset'; did you mean 'datasets'?"),
    ({"objectives": {"a": {"datasets": "hoem"}}}, "objective 'a': no file or folder 'hoem'"),
    ({"objectives": {"a": {"datasets": "south"}}}, "objective 'a': 'south' has the role test, and is not trained on"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("bad")
    write_data(made / "data")
    (made / "sweep.yaml").write_text(yaml.safe_dump({"recipe": "run.yaml", "vary": {"seeds": [0]}, "rows": []}))
    return made


@pytest.mark.parametrize("command", ["train", "sweep"])
@pytest.mark.parametrize(("changes", "said"), CASES, ids=[said[:50] for _, said in CASES])
def test_one_line_and_nothing_half_written(folder, monkeypatch, capsys, in_process, command, changes, said) -> None:
    monkeypatch.chdir(folder)
    recipe = settings(solver="fixed", spend="rows", training={"pairs": 72, "batch_size": 6, "checkpoints": 4})
    Path("run.yaml").write_text(yaml.safe_dump(recipe | changes, sort_keys=False))
    before = set(folder.rglob("*"))
    given = {"train": ["train", "run.yaml"], "sweep": ["sweep", "sweep.yaml", "--store", "runs"]}[command]
    assert main(given) == 2
    *progress, last = capsys.readouterr().err.splitlines()
    assert last.startswith("mogrid: ")
    assert said in last
    assert not [line for line in progress if line.startswith(("mogrid:", "Traceback"))]
    assert set(folder.rglob("*")) == before

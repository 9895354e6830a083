"""A hundred malformed configurations and data files: one line that says what is wrong, and exit code 2, for each."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mogrid.cli import main
from tests.training.tiny import settings, write_run

DELETE = object()

# -- trainings: a key, what it is set to, what the line must say ------------------------------------------------------

CONFIGS: list[tuple[str, Any, str]] = [
    ("solver", "mdga", "did you mean 'mgda'"),
    ("solver", {"name": "mgda", "normalize": "loss"}, "no setting 'normalize'"),
    ("solver", {"name": "pareto_target"}, "'preference' is missing"),
    ("solver", {"name": "pareto_target", "preference": {"effectiveness": 1}}, "no value for objective 'ood'"),
    ("solver", {"name": "pareto_target", "preference": {"effectiveness": -1, "ood": 1, "typos": 1}}, "above 0"),
    ("solver", {"name": "fixed", "weights": {"effectiveness": 0.5, "ood": 0.2, "typos": 0.2}}, "sum to 1"),
    ("solver", {"name": "fixed", "weights": {"effectiveness": 0.5, "odd": 0.5}}, "give them as `mix`"),
    ("solver", {"weights": 3}, "need 'name'"),
    ("solver", "os.system", "unknown solver"),
    ("solver", "balanced_erm", "a loss of that name goes to `objectives.NAME.loss`"),
    ("objectives.effectiveness.loss", "MGDA", "no loss 'mgda': that is a solver, which weighs objectives"),
    ("objectives.effectiveness.loss", {"name": "group_dro", "eta": 0.1}, "loss group_dro: no setting 'eta'"),
    ("solver", {"name": "group_dro", "step_size": 0.1}, "solver group_dro: no setting 'step_size'"),
    ("solver", "mogrid.solvers.mgda:MGDA", "unknown solver"),
    ("solver", ["mgda"], "solver"),
    ("solver", {"name": "every_n", "solver": "mgda", "n": 0}, "at least 1"),
    ("solver", {"name": "famo", "learning_rate": "fast"}, "famo"),
    ("solver", {"name": "annealed", "path": [{"effectiveness": 1, "ood": 0, "typos": 0}], "steps": [1, 2]}, "steps"),
    ("objectives", {}, "objectives"),
    ("objectives", [], "objectives"),
    ("objectives", DELETE, "missing key 'objectives'"),
    ("objectives.effectiveness", {}, "missing key 'objectives.effectiveness.datasets'"),
    ("objectives.effectiveness.datasets", [], "datasets"),
    ("objectives.effectiveness.dataset", [], "unknown key 'objectives.effectiveness.dataset'"),
    ("objectives.effectiveness.datasets.0.path", DELETE, "missing key"),
    ("objectives.effectiveness.datasets.0.path", "", "path"),
    ("objectives.effectiveness.datasets.0.path", "hoem", "did you mean 'home'"),
    ("objectives.effectiveness.datasets.0.path", "../run.yaml", "leaves the data folder"),
    ("objectives.effectiveness.datasets.0.path", "/etc", "leaves the data folder"),
    ("objectives.effectiveness.datasets.0.path", ".", "leaves the data folder"),
    ("objectives.effectiveness.datasets.0.path", "home\0", "effectiveness"),
    ("objectives.effectiveness.datasets.0.kind", "bier", "did you mean 'beir'"),
    ("objectives.effectiveness.datasets.0.kind", 3, "kind"),
    ("objectives.effectiveness.datasets.0.split", "trian", "trian"),
    ("objectives.effectiveness.datasets.0.limit", 1, "limit"),
    ("objectives.effectiveness.datasets.0.limit", "many", "limit"),
    ("objectives.effectiveness.loss", "infonec", "did you mean 'infonce'"),
    ("objectives.effectiveness.loss", {"temperature": 1.0}, "need 'name'"),
    ("objectives.effectiveness.loss", {"name": "infonce", "temprature": 1.0}, "did you mean 'temperature'"),
    ("objectives.effectiveness.loss", {"name": "fgm", "epsilon": 7}, "epsilon"),
    ("objectives.effectiveness.loss", {"name": "infonce", "temperature": "warm"}, "temperature"),
    ("objectives.effectiveness.loss", "consistency", "needs `perturb`"),
    ("objectives.effectiveness.perturb", "typos", "reads no perturbed text"),
    ("objectives.effectiveness.negatives", -1, "negatives"),
    ("objectives.effectiveness.negatives", 500, "effectiveness"),
    ("objectives.typos.perturb", "typso", "did you mean 'typos'"),
    ("objectives.typos.perturb", "hotflip", "unknown attack on queries"),
    ("objectives.typos.perturb", {"name": "typos", "kinds": ["swop"]}, "swop"),
    ("objectives.typos.perturb", {"name": "typos", "kinds": ["swap"], "role": "test"}, "one of role train is needed"),
    ("objectives.typos.perturb", {"name": "typos", "kinds": ["swap"], "role": "exam"}, "one of role train is needed"),
    ("objectives.typos.variants", 0, "variants"),
    ("objectives.typos.negatives", 1, "takes no hard negatives"),
    ("objectives.a b", {"datasets": [{"path": "home"}]}, "letters, digits"),
    ("training", DELETE, "missing key 'training'"),
    ("training", 12, "training"),
    ("training.steps", 0, "steps"),
    ("training.steps", 1.5, "steps"),
    ("training.steps", "ten", "steps"),
    ("training.steps", DELETE, "give one of steps, epochs, pairs and budget"),
    ("training.epochs", 1, "give one of steps, epochs, pairs and budget"),
    ("training.batch_size", 1, "batch_size"),
    ("training.batch_size", 1000, "a batch of 1000 needs as many rows, none of them twice, and it has"),
    ("training.batch_sizes", {"odd": 4}, "did you mean 'ood'"),
    ("training.batch_sizes", {"ood": 1}, "at least 2"),
    ("training.learning_rate", 0, "learning_rate"),
    ("training.learning_rate", "1e-3x", "learning_rate"),
    ("training.learning_rate", float("nan"), "learning_rate"),
    ("training.lerning_rate", 1, "did you mean 'learning_rate'"),
    ("training.warmup", 1.0, "warmup"),
    ("training.schedule", "liner", "schedule"),
    ("training.gradients", "exakt", "did you mean 'exact'"),
    ("training.gradients", {"mode": "sketch", "size": 0}, "size"),
    ("training.report_to", ["tensorbord"], "tensorbord"),
    ("training.temperature", -1, "temperature"),
    ("model.size", "64", "LAYERSxWIDTH"),
    ("model.size", "1x33", "divisible by 32"),
    ("model.towers", 3, "towers"),
    ("model.pooling", "max", "pooling"),
    ("model.path", "no/such/encoder-of-ours", "no such folder"),
    ("model.max_length", 2, "max_length"),
    ("model.sizee", "1x32", "did you mean 'size'"),
    ("seed", -1, "seed"),
    ("output", "", "output"),
    ("output", DELETE, "name the folder"),
    ("output", "run.yaml/out", "run.yaml"),
    ("data", "nowhere", "nowhere"),
    ("evaluation", {"domains": "data/none.yaml"}, "none.yaml"),
    ("evaluation", {"domains": "data/domains.yaml", "role": "exam"}, "role"),
    ("evaluation", {"domains": "data/domains.yaml", "rolle": "test"}, "did you mean 'role'"),
    ("trainig", {"steps": 3}, "did you mean 'training'"),
]

# -- files that are no configuration ---------------------------------------------------------------------------------

TEXTS: list[tuple[str, bytes, str]] = [
    ("empty", b"", "missing key"),
    ("a list", b"- 1\n- 2\n", "expected a mapping"),
    ("a word", b"hello", "expected a mapping"),
    ("open bracket", b"output: [a, b", "not valid YAML"),
    ("tab", b"output:\n\t- a", "not valid YAML"),
    ("twice", b"output: a\noutput: b\n", "stands here twice"),
    ("latin-1", "output: caf\xe9".encode("latin-1"), "not UTF-8"),
    ("code", b"output: !!python/object/apply:os.system ['echo']", "not valid YAML"),
    ("null byte", b"output: a\0b", "not valid YAML"),
    ("itself", b"a: &a\n  b: *a\n", "run.yaml"),
]

# -- data files: which, how it is changed, what the line must say ------------------------------------------------------


def replace(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


FILES: list[tuple[str, Callable[[str], str] | None, str]] = [
    ("home/corpus.jsonl", None, "corpus.jsonl"),
    ("home/corpus.jsonl", lambda text: "", "corpus.jsonl"),
    ("home/corpus.jsonl", lambda text: text[: len(text) // 2], "corpus.jsonl:"),
    (
        "home/corpus.jsonl",
        lambda text: text + text.splitlines()[0].replace('"text": "', '"text": "un') + "\n",
        "corpus.jsonl:91",
    ),
    ("home/corpus.jsonl", replace('"text"', '"txet"'), "corpus.jsonl:1"),
    ("home/corpus.jsonl", replace('"d0"', "17.5"), "corpus.jsonl:1"),
    ("home/corpus.jsonl", lambda text: "[]\n" + text, "corpus.jsonl:1"),
    ("home/queries.jsonl", None, "queries.jsonl"),
    ("home/queries.jsonl", replace("{", ""), "queries.jsonl:1"),
    ("home/queries.jsonl", replace('"q0"', '"q1"'), "queries.jsonl"),
    ("north/qrels/dev.tsv", None, "dev"),
    ("home/qrels/train.tsv", replace("\td0", ""), "train.tsv:2"),
    ("home/qrels/train.tsv", lambda text: text + text.splitlines()[1][:-1] + "2\n", "train.tsv:"),
    ("home/qrels/train.tsv", replace("\t1", "\thigh"), "train.tsv:2"),
    ("home/qrels/train.tsv", replace("\t1", ""), "train.tsv:2"),
    ("home/qrels/train.tsv", lambda text: "", "train.tsv"),
    ("home/qrels/dev.tsv", lambda text: text + "q0\td0\t1\n", "q0"),
    ("domains.yaml", None, "domains.yaml"),
    ("domains.yaml", replace("north", "nroth"), "domains.yaml"),
    ("domains.yaml", replace("north", "east"), "domains.yaml"),
    ("domains.yaml", replace("north", "../north"), "domains.yaml"),
    ("domains.yaml", replace("source", "sauce"), "did you mean 'source'"),
    ("domains.yaml", replace("select", "validate"), "domains.yaml"),
]


def fails(command: list[str], capsys: pytest.CaptureFixture[str], said: str) -> None:
    code = main(command)
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("mogrid")]
    assert code == 2, err
    assert len(lines) == 1, err
    assert "Traceback" not in err
    assert re.search(re.escape(said), lines[0]), err


def change(value: dict[str, Any], key: str, new: Any) -> dict[str, Any]:
    value = copy.deepcopy(value)
    inner: Any = value
    *parents, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    for part in parents:
        inner = inner[part]
    if new is DELETE:
        del inner[last]
    else:
        inner[last] = new
    return value


def test_there_are_a_hundred() -> None:
    assert len(CONFIGS) + len(TEXTS) + len(FILES) >= 100


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("malformed")
    write_run(folder)
    return folder


@pytest.mark.parametrize(("key", "new", "said"), CONFIGS, ids=[f"{i}-{key}" for i, (key, _, _) in enumerate(CONFIGS)])
def test_configuration(data: Path, capsys, monkeypatch, key: str, new: Any, said: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = data / "run.yaml"
    path.write_text(yaml.safe_dump(change(settings(), key, new), sort_keys=False))
    shutil.rmtree(data / "out", ignore_errors=True)
    fails(["train", str(path)], capsys, said)
    left = {p.name for p in (data / "out").rglob("*")} if (data / "out").exists() else set()
    assert left <= {".lock", "recipe.json"}


@pytest.mark.parametrize(("name", "content", "said"), TEXTS, ids=[name for name, _, _ in TEXTS])
def test_text(tmp_path: Path, capsys, name: str, content: bytes, said: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    fails(["train", str(path)], capsys, said)
    fails(["sweep", str(path), "--store", str(tmp_path / "store")], capsys, "run.yaml")


@pytest.mark.parametrize(("name", "edit", "said"), FILES, ids=[f"{i}-{name}" for i, (name, _, _) in enumerate(FILES)])
def test_data_file(tmp_path: Path, capsys, name: str, edit: Callable[[str], str] | None, said: str) -> None:
    config = write_run(tmp_path, evaluation={"domains": "data/domains.yaml"})
    path = tmp_path / "data" / name
    if edit is None:
        path.unlink()
    else:
        path.write_text(edit(path.read_text()))
    before = json.dumps(sorted(p.name for p in (tmp_path / "data").rglob("*")))
    fails(["train", str(config)], capsys, said)
    fails(["data", str(tmp_path / "data")], capsys, said)
    assert json.dumps(sorted(p.name for p in (tmp_path / "data").rglob("*"))) == before

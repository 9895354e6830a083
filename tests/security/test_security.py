"""Nothing that comes from data or configuration runs, and no file leads out of its folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from mogrid.errors import ConfigError, DataError
from mogrid.runs import RunStore

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "mogrid").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")])

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load",
                   "pandas.read_pickle", "pd.read_pickle", "torch.hub.load"}  # fmt: skip
LOADERS = {"SentenceTransformer", "CrossEncoder", "Transformer", "from_pretrained", "load_dataset"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((k.value for k in call.keywords if k.arg == name), None)


def is_true(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


@pytest.mark.parametrize("path", SOURCES, ids=[str(p.relative_to(ROOT)) for p in SOURCES])
def test_source(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not {name.split(".")[0] for name in names} & FORBIDDEN_MODULES, f"line {node.lineno}"
    for name, call in calls(path):
        where = f"line {call.lineno}: {name}"
        assert name not in FORBIDDEN_CALLS, where
        assert not is_true(keyword(call, "shell")), where
        assert not is_true(keyword(call, "allow_pickle")), where
        if name == "torch.load":
            assert is_true(keyword(call, "weights_only")), where
        if name.split(".")[-1] in LOADERS:
            assert not is_true(keyword(call, "trust_remote_code")), where
        if name.split(".")[-1] == "import_module":
            module = ast.unparse(call.args[0])
            # Only names from our own tables: `given.command` is checked against COMMANDS before.
            assert module in ("f'mogrid.commands.{given.command}'", "f'mogrid.commands.{name}'", "_HOME[name]"), where


def test_there_are_sources() -> None:
    assert len(SOURCES) > 150


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc", "..", ".", "", "a\\b", "a\0b"])
def test_runs_stay_in_their_store(tmp_path: Path, name: str) -> None:
    store = RunStore(tmp_path)
    for ask in (store.folder, store.finished, store.read, store.steps):
        with pytest.raises(DataError, match="no run's name"):
            ask(name)


@pytest.mark.parametrize(
    "name", ["os.system", "mogrid.solvers.mgda:MGDA", "builtins.eval", "mogrid.solvers.MGDA", "../mgda"]
)
def test_names_are_never_imported(name: str) -> None:
    from mogrid.attacks import attack_from_config
    from mogrid.objectives.registry import loss_from_config
    from mogrid.solvers import SolverError, from_config

    with pytest.raises(SolverError, match="unknown solver"):
        from_config(name)
    with pytest.raises(ConfigError, match="unknown attack"):
        attack_from_config(name)
    with pytest.raises(ConfigError, match="unknown loss"):
        loss_from_config(name, None)


def test_names_out_of_the_data_folder_are_refused(tmp_path: Path) -> None:
    """A link is the user's own doing and is followed; a name in a file that came from elsewhere is not."""
    from mogrid.data import read_collection
    from tests.training.tiny import write_data, write_set

    write_data(tmp_path / "data")
    write_set(tmp_path / "outside", 9, splits=("test",))
    (tmp_path / "data" / "link").symlink_to(tmp_path / "outside")
    path = tmp_path / "data" / "domains.yaml"
    roles = path.read_text()
    path.write_text(roles.replace("south", "link"))
    assert read_collection(tmp_path / "data").ood[-1].name == "link"
    for name in ("../outside", "link/../../outside", str(tmp_path / "outside")):
        path.write_text(roles.replace("south", name))
        with pytest.raises(ConfigError, match="leaves the data folder"):
            read_collection(tmp_path / "data")


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    import os

    import torch
    from transformers import BertConfig, BertModel

    from mogrid.retrieval.models import load_retriever, train_tokenizer

    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "harm"),)

    tokenizer = train_tokenizer(["a few words of text"], 64, 16)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.save({**BertModel(config).state_dict(), "harm": Harm()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match="cannot be loaded") as caught:
        load_retriever(tmp_path)
    assert not (tmp_path / "harm").exists()
    assert "\n" not in str(caught.value)

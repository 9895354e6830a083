"""Training files as people have them: each can be named in a recipe, and the hard negatives it brings are trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from mogrid.data import Role
from mogrid.errors import ConfigError, DataError, RoleError
from mogrid.training.recipe import Recipe
from mogrid.training.run import materials, run
from tests.training.tiny import settings, write_data

CASES = Path(__file__).parents[1] / "cases" / "training-files"


def recipe(path: Path, objective: dict[str, object], **changes: object) -> Recipe:
    file = path / "run.yaml"
    value = {"objectives": {"one": objective}, "solver": "fixed", "training": {"steps": 2, "batch_size": 4}, **changes}
    file.write_text(yaml.safe_dump(settings(**value)))
    return Recipe.model_validate(settings(**value))


@pytest.mark.parametrize(
    ("entry", "columns"),
    [
        ("faq.csv", ["query", "document"]),
        ({"path": "faq.csv", "kind": "csv", "columns": {"query": "question", "document": "answer"}}, ["query", "document"]),
        ({"path": "flagembedding.jsonl", "kind": "flagembedding"}, ["query", "document", "negative_1", "negative_2"]),
        ({"path": "haystack-dpr.json", "kind": "dpr"}, ["query", "document", "negative_1"]),
        ({"path": "tevatron.jsonl", "kind": "tevatron"}, ["query", "document", "negative_1"]),
        ({"path": "triplets.jsonl", "kind": "triplets"}, ["query", "document", "negative_1"]),
        ({"path": "training-files", "split": "triplets"}, ["query", "document", "negative_1"]),
    ],
)  # fmt: skip
def test_each_file_can_be_named(tmp_path, entry, columns) -> None:
    shutil.copytree(CASES, tmp_path / "data")
    (tmp_path / "data" / "training-files").symlink_to(CASES)
    rows = materials(recipe(tmp_path, {"datasets": entry}), tmp_path).datasets["one"]
    assert rows.column_names == [*columns, "document_ids", "relevant_ids"]
    assert "what boils water" in rows["query"]


def write_flagembedding(path: Path, *, negatives: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"query": f"asked {n}", "pos": [f"good text {n}"], "neg": [f"bad text {n} {m}" for m in range(negatives)]}
        for n in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_negatives_of_a_file_are_trained_on(tmp_path) -> None:
    """By default, with those of other sets filled up; a count of 0 leaves them out, and costs less."""
    write_flagembedding(tmp_path / "data" / "flag.jsonl", negatives=3)
    write_flagembedding(tmp_path / "data" / "plain.jsonl", negatives=0)
    spent = {}
    for negatives in (None, 0):
        objective = {"datasets": ["flag.jsonl", "plain.jsonl"], "loss": "balanced_erm", "negatives": negatives}
        given = materials(recipe(tmp_path, objective), tmp_path)
        names = [name for name in given.datasets["one"].column_names if name.startswith("negative")]
        assert names == ([] if negatives == 0 else ["negative_1", "negative_2", "negative_3"])
        assert all(None not in row.values() for row in given.datasets["one"])
        record = run(given, tmp_path / f"out-{negatives}")
        spent[negatives] = record.flops["total"]
    assert spent[None] > 1.8 * spent[0]


def test_negatives_are_mined_by_a_model_with_a_margin(tmp_path, model) -> None:
    write_data(tmp_path / "data")
    model.save_pretrained(str(tmp_path / "base"))
    objective = {"datasets": "home", "negatives": {"count": 2, "by": "base", "margin": 0.1, "skip": 1}}
    with pytest.raises(ConfigError, match=r"negatives by the base model need one: give model\.path"):
        materials(recipe(tmp_path, objective), tmp_path)
    found = {}
    for by in ("base", "bm25"):
        objective["negatives"]["by"] = by  # type: ignore[index]
        rows = materials(recipe(tmp_path, objective, model={"path": "base"}), tmp_path).datasets["one"]
        found[by] = {(row["query"], row["negative_1"]) for row in rows}
    assert found["base"] != found["bm25"]


def test_a_query_that_is_judged_is_shown_and_can_be_dropped_from_training(tmp_path) -> None:
    write_data(tmp_path / "data")
    corpus, queries = (tmp_path / "data" / "south" / name for name in ("corpus.jsonl", "queries.jsonl"))
    taken = json.loads(queries.read_text().splitlines()[0])["text"]
    rows = [
        {"query": f"  {taken.upper()} ", "document": "x"},
        *({"query": f"other {n}", "document": f"y {n}"} for n in range(8)),
    ]
    (tmp_path / "data" / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert corpus.is_file()
    evaluation = {"domains": "data/domains.yaml", "role": "test"}
    entry: dict[str, object] = {"path": "mine.jsonl"}
    objective = {"datasets": [entry], "judged": "north"}
    with pytest.raises(
        RoleError,
        match=r"objective 'one': mine trains on .*, a query of the test split of 'south' .*drop_overlap: true",
    ):
        materials(recipe(tmp_path, objective, evaluation=evaluation), tmp_path)
    entry["drop_overlap"] = True
    given = materials(recipe(tmp_path, objective, evaluation=evaluation), tmp_path)
    assert sorted(given.datasets["one"]["query"]) == [f"other {n}" for n in range(8)]


def test_what_a_file_of_domains_drops_is_not_trained_on_either(tmp_path) -> None:
    write_data(tmp_path / "data")
    qrels = tmp_path / "data" / "home" / "qrels"
    first = (qrels / "test.tsv").read_text().splitlines()[1]
    (qrels / "train.tsv").write_text((qrels / "train.tsv").read_text() + first + "\n")
    before = len((qrels / "train.tsv").read_text().splitlines()) - 2
    objective = {"datasets": "home", "judged": "north"}
    evaluation = {"domains": "roles.yaml", "role": "test"}
    (tmp_path / "roles.yaml").write_text("source: {folder: home, train: train, test: test}")
    with pytest.raises(RoleError, match="drop_overlap: true"):
        materials(recipe(tmp_path, objective, evaluation=evaluation), tmp_path)
    (tmp_path / "roles.yaml").write_text("source: {folder: home, train: train, test: test, drop_overlap: true}")
    assert len(materials(recipe(tmp_path, objective, evaluation=evaluation), tmp_path).datasets["one"]) == before


def test_an_evaluation_names_only_what_it_needs(tmp_path) -> None:
    write_data(tmp_path / "data")
    for name, text, judged, expected in (
        ("a", "ood: {test: [{folder: east, split: train}, {folder: south}]}", "home/dev", {"east", "south"}),
        ("b", "source: {folder: home, test: test}", "north/dev", {"home"}),
        ("c", "source: {folder: home, train: train}\nood: {test: [{folder: south}]}", "north/dev", {"home", "south"}),
        ("d", "ood: {train: [{folder: west}]}", "north/dev", None),
    ):
        (tmp_path / f"{name}.yaml").write_text(text)
        evaluation = {"domains": f"{name}.yaml", "role": "test", "perturb": ["typos"]}
        made = recipe(tmp_path, {"datasets": "west", "judged": judged}, evaluation=evaluation)
        if expected is None:
            with pytest.raises(ConfigError, match="no data set has the role test"):
                materials(made, tmp_path)
        else:
            places = materials(made, tmp_path).judging.places
            assert {domain for domain, role in places if role is Role.TEST} == expected


@pytest.mark.parametrize("split", ["dev", "select", "validation", "valid", "val"])
def test_a_set_is_judged_by_its_select_split_by_any_usual_name(tmp_path, split) -> None:
    write_data(tmp_path / "data")
    qrels = tmp_path / "data" / "home" / "qrels"
    (qrels / "dev.tsv").rename(qrels / f"{split}.tsv")
    (tmp_path / "data" / "domains.yaml").unlink()
    places = materials(recipe(tmp_path, {"datasets": "west", "judged": "home"}), tmp_path).judging.places
    assert ("home", Role.SELECT) in places


def test_what_a_recipe_names_wrongly_is_said(tmp_path) -> None:
    shutil.copytree(CASES, tmp_path / "data")
    for entry, error, message in (
        ("fag.csv", DataError, r"no file or folder 'fag\.csv' in .*; did you mean 'faq\.csv'"),
        ({"path": "faq.csv", "columns": {"query": "frage"}}, DataError, r"faq\.csv:2: no column 'frage'"),
        ({"path": "triplets.jsonl", "kind": "tevatron"}, DataError, r"triplets\.jsonl:1: no 'positive_passages'; did you mean"),
        ("../data/faq.csv", ConfigError, "leaves the data folder"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            materials(recipe(tmp_path, {"datasets": entry}), tmp_path)


def write_records(folder: Path, word: str, *splits: str) -> None:
    folder.mkdir(parents=True)
    for split in splits:
        rows = ({"query": f"{word} {split} {n}", "document": f"text {n} of {word}"} for n in range(8))
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_two_places_of_one_name_are_not_judged_as_one(tmp_path) -> None:
    for place in ("x/set", "y/set"):
        write_records(tmp_path / "data" / place, place, "train", "dev", "dev2")
    write_records(tmp_path / "data" / "mine", "mine", "train")
    for first, second in (("x/set/dev", "y/set/dev"), ("x/set/dev", "x/set/dev2")):
        given = recipe(tmp_path, {"datasets": "mine", "judged": [first, second]})
        with pytest.raises(ConfigError, match=f"objective 'one': '{first}' and '{second}' are judged, and both would"):
            materials(given, tmp_path)
    (tmp_path / "data" / "other").symlink_to("y/set")
    judged = {"datasets": "mine", "judged": ["x/set/dev", "other/dev", "other"]}
    assert set(materials(recipe(tmp_path, judged), tmp_path).judging.places) == {
        ("set", Role.SELECT), ("other", Role.SELECT),
    }  # fmt: skip


def test_a_role_is_of_a_folder_and_not_of_what_it_is_called(tmp_path) -> None:
    for place in ("sub/chat", "other/chat", "mine"):
        write_records(tmp_path / "data" / place, place, "train", "dev")
    (tmp_path / "data" / "link").symlink_to("sub/chat")
    (tmp_path / "data" / "domains.yaml").write_text("ood: {test: [{folder: sub/chat, split: dev}]}")
    for judged in ("sub/chat/dev", "link/dev", "chat"):
        with pytest.raises(RoleError, match=f"judged on '{judged}', whose role is test"):
            materials(recipe(tmp_path, {"datasets": "mine", "judged": judged}), tmp_path)
    for path in ("sub/chat", "link"):
        with pytest.raises(RoleError, match=f"'{path}' has the role test, and is not trained on"):
            materials(recipe(tmp_path, {"datasets": path}), tmp_path)
    given = materials(recipe(tmp_path, {"datasets": "other/chat"}), tmp_path)
    assert list(given.judging.places) == [("chat", Role.SELECT)]
    assert set(given.judging.domains["chat"].split(Role.SELECT).queries.values()) == {
        f"other/chat dev {n}" for n in range(8)
    }

"""A recipe: what it takes, what it refuses in one line, and what its hash depends on."""

from __future__ import annotations

import json

import pytest
import yaml

from mogrid.errors import ConfigError
from mogrid.training.recipe import Recipe, read_recipe
from mogrid.training.run import mix_label
from tests.training.tiny import settings


def recipe(**changes: object) -> Recipe:
    return Recipe.model_validate(settings(solver="fixed", **changes))


def refused(tmp_path, *changes: str, **given: object) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings(**{"solver": "fixed", **given}), sort_keys=False))
    with pytest.raises(ConfigError) as error:
        read_recipe(path, changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_short_forms_are_the_long_ones() -> None:
    short = recipe(
        objectives={"a": {"datasets": "home", "judged": "home/dev"}, "b": {"datasets": ["east", {"path": "west"}]}}
    )
    assert [entry.path for entry in short.objectives["b"].datasets] == ["east", "west"]
    assert short.objectives["a"].judged is not None
    assert short.objectives["a"].judged.on == ["home/dev"]


def test_a_mix_has_a_share_of_every_objective() -> None:
    made = recipe(mix={"typos": 0.25, "effectiveness": 0.75}, spend="rows", training={"pairs": 64, "batch_size": 8})
    assert made.shares == {"effectiveness": 0.75, "ood": 0.0, "typos": 0.25}
    assert made.rows() == {"effectiveness": 6, "typos": 2}


def test_rows_of_a_step_by_spending() -> None:
    mix = {"effectiveness": 0.5, "ood": 0.25, "typos": 0.25}
    training = {"steps": 3, "batch_size": 8, "accumulation": 2}
    assert recipe(mix=mix, training=training).rows() == dict.fromkeys(mix, 16)
    assert recipe(mix=mix, training=training, spend="rows").rows() == {"effectiveness": 8, "ood": 4, "typos": 4}
    assert recipe(mix=mix, training=training, spend="steps").rows() == {"effectiveness": 8, "ood": 4, "typos": 4}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mix": {"effectivenes": 1.0}}, "mix: no objective 'effectivenes'; did you mean 'effectiveness'?"),
        ({"mix": {"effectiveness": 0.5}}, "the shares sum to 0.5, not 1"),
        ({"mix": {"effectiveness": 1.5, "ood": -0.5}}, "must be 0 or more"),
        ({"mix": {"effectiveness": 0.9, "ood": 0.1}, "spend": "rows"}, "the smallest batch that would do"),
        ({"spend": "steps", "solver": "mgda"}, "`spend: steps` has one a step"),
        ({"spend": "row"}, "'weights', 'rows' or 'steps'"),
        ({"solver": {"name": "fixed", "weights": {"ood": 1}}}, "give them as `mix`"),
        ({"training": {"steps": 2, "pairs": 8}}, "give one of steps, epochs, pairs and budget"),
        ({"training": {"steps": 2, "batch_sizes": {"ood": 4}}, "spend": "rows"}, "leave one out"),
        ({"model": {"layers": 2}}, "name its `path`"),
        ({"model": {"path": "x", "layers": 0}}, "at least one layer"),
        ({"modell": {}}, "unknown key 'modell'; did you mean 'model'?"),
        ({"objectives": {"a": {"datasets": ["home"], "judgd": "x"}}}, "did you mean 'judged'?"),
        ({"objectives": {"a": {"datasets": ["home"], "loss": "infonc"}}}, "unknown loss"),
        ({"objectives": {"a": {"datasets": ["home"], "perturb": {"name": "typos", "role": "test"}, "loss": "consistency"}}},
         "one of role train is needed"),
        ({"evaluation": {"perturb": ["hotflip"]}}, "unknown attack on queries 'hotflip'; did you mean 'query_hotflip'?"),
        ({"evaluation": {"perturb": ["query_stuffing"]}}, "unknown attack on queries 'query_stuffing'"),
        ({"evaluation": {"perturb": ["corpus_poisoning"]}}, "unknown attack on queries 'corpus_poisoning'"),
        ({"evaluation": {"perturb": ["query_hotflip"]}}, "'query_hotflip' looks into a model, and BM25"),
        ({"training": {"steps": 2, "learning_rate": float("inf")}}, "learning_rate: input should be a finite number"),
        ({"training": {"steps": 2, "temperature": "inf"}}, "training.temperature: input should be a finite number"),
        ({"training": {"steps": 2, "weight_decay": float("inf")}}, "weight_decay: input should be a finite number"),
        ({"training": {"steps": 2, "max_grad_norm": float("inf")}}, "max_grad_norm: 0 switches clipping off"),
        ({"objectives": {"a": {"datasets": ["home"], "loss": {"name": "infonce", "temperature": float("inf")}}}},
         "temperature must be a finite number, got inf"),
        ({"solver": {"name": "cagrad", "c": float("nan")}}, "solver cagrad: c must be a finite number, got nan"),
        ({"preference": {"ood": float("inf")}}, "preference.ood: input should be a finite number"),
        ({"objectives": {"a": {"datasets": ["home"], "negatives": {"count": 60, "skip": 41}}}},
         "objectives.a.negatives: count and skip are of 100 results: at most so many together, got 60 and 41"),
        ({"solver": {"name": "every_n", "n": 2, "solver": "modo"}}, "`training.accumulation` must be even, such as 2, got 1"),
        ({"solver": "sdmgrad", "training": {"steps": 2, "accumulation": 3}}, "solver 'sdmgrad' compares two halves"),
        ({"objectives": {f"o{i}": {"datasets": ["home"]} for i in range(17)}}, "at most 16"),
    ],
)  # fmt: skip
def test_what_is_refused_in_one_line_with_its_place(tmp_path, given, said) -> None:
    message = refused(tmp_path, **given)
    assert said in message
    assert message.startswith(f"{tmp_path / 'run.yaml'}:")


def test_a_length_takes_the_place_of_the_one_there(tmp_path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings(solver="fixed")))
    made = read_recipe(path, ["training.pairs=640"])
    assert (made.training.pairs, made.training.steps) == (640, None)


def test_dotted_keys_open_short_forms(tmp_path) -> None:
    path = tmp_path / "run.yaml"
    objective = {"datasets": "home", "loss": "infonce", "judged": "home/dev", "negatives": 2}
    model = {"path": "base", "layers": 1, "heal": True}
    path.write_text(yaml.safe_dump(settings(model=model, objectives={"effectiveness": objective})))
    given = ["model.heal.texts=20", "objectives.effectiveness.loss.temperature=.1"]
    made = read_recipe(path, [*given, "objectives.effectiveness.judged.metric=ndcg"])
    assert made.model.heal is not None
    assert made.model.heal.texts == 20
    assert made.objectives["effectiveness"].loss == {"name": "infonce", "temperature": 0.1}
    judged = made.objectives["effectiveness"].judged
    assert judged is not None
    assert (judged.on, judged.metric) == (["home/dev"], "ndcg")
    with pytest.raises(ConfigError, match=r"seed\.most: 'seed' is 3, which has no keys"):
        read_recipe(path, ["seed=3", "seed.most=1"])


def test_a_solver_gets_settings_by_dotted_keys(tmp_path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings(solver="fixed")))
    assert read_recipe(path, ["solver.name=mgda"]).solver == {"name": "mgda"}


def test_the_hash_is_of_what_decides_the_numbers() -> None:
    one = recipe()
    assert one.digest() == recipe(output="elsewhere", data="moved").digest()
    assert one.digest() == recipe(training={**settings()["training"], "report_to": [], "checkpoints": 9}).digest()
    here, there = (recipe(evaluation={"domains": f"{folder}/roles.yaml"}) for folder in ("here", "there"))
    assert here.digest() == there.digest()  # what the file says is in the data's hash
    assert here.family() == there.family()
    for change in ({"seed": 4}, {"spend": "steps"}, {"training.learning_rate": 0.5}, {"model.towers": 2}):
        assert one.change(change).digest() != one.digest()
    assert one.digest("data") != one.digest("other data")


def test_a_recipe_survives_being_written_down() -> None:
    one = recipe(mix={"effectiveness": 1.0}, model={"path": "x", "layers": [0, 5], "lora": True})
    value = json.loads(json.dumps(one.model_dump(mode="json", exclude_defaults=True)))
    assert Recipe.model_validate(value) == one


@pytest.mark.parametrize(
    ("shares", "label"),
    [
        ({"a": 1.0, "b": 0.0}, "a only"),
        ({"a": 0.5, "b": 0.5}, "equal mix"),
        ({"a": 0.8, "b": 0.2}, ".8/.2"),
        ({"a": 0.25, "b": 0.75, "c": 0.0}, ".25/.75/0"),
    ],
)
def test_names_of_mixes(shares, label) -> None:
    assert mix_label(shares) == label


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ({"size": "2x64"}, "2x64"),
        ({"path": "org/Model-v2", "layers": 2}, "Model-v2, 2 layers"),
        ({"path": "m", "layers": [0, 5]}, "m, layers 0, 5"),
        ({"path": "m", "layers": 1, "heal": True}, "m, 1 layer, healed"),
        ({"path": "m", "freeze": 4}, "m, lowest 4 frozen"),
        (
            {"path": "m", "lora": {"rank": 4}, "towers": 2, "freeze": "embeddings"},
            "m, LoRA 4, frozen embeddings, two towers",
        ),
    ],
)
def test_names_of_base_models(model, label) -> None:
    assert recipe(model=model).model.label == label

"""Sweeps: axes over any field of a recipe, and what of a grid is no recipe."""

from __future__ import annotations

import pytest
import yaml

from mogrid.errors import ConfigError
from mogrid.sweep.grid import Sweep, lattice, read_sweep
from mogrid.training.run import default_label
from tests.training.tiny import settings


def sweep(tmp_path, vary: object, **changes: object) -> Sweep:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings(**{"solver": "fixed", **changes})))
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({"recipe": "run.yaml", "vary": vary}, sort_keys=False))
    return read_sweep(path)


def test_axes_multiply_last_fastest(tmp_path) -> None:
    made = sweep(tmp_path, {"pairs": [64, 128], "seeds": [0, 1], "mix": ["equal", "corners"]})
    assert len(made.points) == 16
    assert [point.recipe.seed for point in made.points[:8]] == [0] * 4 + [1] * 4
    assert {point.recipe.training.pairs for point in made.points} == {64, 128}
    assert all(point.recipe.training.steps is None for point in made.points)


def test_several_keys_vary_together(tmp_path) -> None:
    made = sweep(
        tmp_path, {"scales": [{"pairs": 64, "learning_rate": 0.1}, {"pairs": 128, "training.learning_rate": 0.2}]}
    )
    assert [(p.recipe.training.pairs, p.recipe.training.learning_rate) for p in made.points] == [(64, 0.1), (128, 0.2)]


def test_models_keep_what_the_recipe_says(tmp_path) -> None:
    made = sweep(tmp_path, {"models": [{"size": "1x32"}, {"size": "2x32"}]})
    assert [point.recipe.model.size for point in made.points] == ["1x32", "2x32"]
    assert all(point.recipe.model.vocabulary == 300 for point in made.points)


@pytest.mark.parametrize("apart", [False, True], ids=["inline", "a file of its own"])
def test_settings_reach_the_recipe(tmp_path, apart) -> None:
    own: object = settings(seed=3)
    if apart:
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(own))
        own = "recipe.yaml"
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({"recipe": own, "vary": {"mix": ["equal"]}}))
    made = read_sweep(tmp_path / "sweep.yaml", ["recipe.training.learning_rate=3e-4", "vary.mix=[typos, equal]"])
    assert [point.recipe.training.learning_rate for point in made.points] == [3e-4, 3e-4]
    assert made.recipe.seed == 3


def test_a_union_of_grids_has_no_run_twice(tmp_path) -> None:
    made = sweep(tmp_path, [{"seeds": [0, 1]}, {"seeds": [1, 2]}])
    assert [point.recipe.seed for point in made.points] == [0, 1, 2]


def test_labels_leave_out_what_goes_with_the_scale(tmp_path) -> None:
    scales = [{"model.size": "1x32", "learning_rate": 0.01}, {"model.size": "2x32", "learning_rate": 0.003}]
    made = sweep(tmp_path, {"scales": scales, "mix": ["equal"]})
    assert {made.label(point, default_label(point.recipe)) for point in made.points} == {"equal mix"}
    made = sweep(tmp_path, {"scales": scales[:1], "warm": [{"learning_rate": 0.1}, {"learning_rate": 0.2}]})
    assert len({made.label(point, "x") for point in made.points}) == 2


def test_labels_say_what_varies_besides_scale_and_seed(tmp_path) -> None:
    vary = {
        "pairs": [64, 128],
        "seeds": [0, 1],
        "mix": ["effectiveness"],
        "spend": ["rows", "weights"],
        "training.warmup": [0.0, 0.5],
    }
    made = sweep(tmp_path, vary, training={"steps": 1, "batch_size": 8})
    labels = {made.label(point, default_label(point.recipe)) for point in made.points}
    assert labels == {
        f"effectiveness only, as {spend}, warmup {warmup}" for spend in ("rows", "weights") for warmup in ("0", "0.5")
    }


@pytest.mark.parametrize(
    ("count", "parts", "points"), [(1, 1, 1), (2, 2, 3), (2, 3, 5), (3, 3, 10), (3, 2, 7), (4, 1, 5)]
)
def test_a_lattice_has_corners_and_the_centre(count, parts, points) -> None:
    rows = list(lattice(count, parts))
    assert len(rows) == len(set(rows)) == points
    assert all(sum(row) == pytest.approx(1) for row in rows)
    assert any(max(row) - min(row) < 1e-12 for row in rows)
    for corner in range(count):
        assert tuple(float(i == corner) for i in range(count)) in rows


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        ({"pair": [1]}, "no such key of a recipe; did you mean 'pairs'?"),
        ({"training.learning_rat": [0.1]}, "did you mean 'learning_rate'?"),
        ({"mix": [{"effectiveness": 0.4}]}, "sum to 0.4"),
        ({"mix": ["effectivenes"]}, "did you mean 'effectiveness'?"),
        ({"mix": {"lattice": 0}}, "whole number of parts"),
        ({"seeds": []}, "expected a list of values"),
        ({"seeds": 3}, "expected a list of values"),
        ({"scales": [{"pairz": 3}]}, "no such key of a recipe 'pairz'"),
        ({}, "a grid is a mapping of axes"),
        ({"seeds": list(range(200)), "pairs": list(range(2, 102))}, "at most 10,000"),
    ],
)
def test_what_is_no_grid_is_said_in_one_line(tmp_path, vary, said) -> None:
    with pytest.raises(ConfigError) as error:
        sweep(tmp_path, vary)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_recipe_may_stand_in_the_sweep(tmp_path) -> None:
    path = tmp_path / "sweep.yaml"
    value = settings(solver="fixed")
    path.write_text(yaml.safe_dump({"recipe": value, "vary": {"seeds": [0]}}))
    assert read_sweep(path).base == tmp_path
    value["seed"] = -1
    path.write_text(yaml.safe_dump({"recipe": value, "vary": {"seeds": [0]}}, sort_keys=False))
    with pytest.raises(ConfigError, match=r"sweep\.yaml:4: seed"):
        read_sweep(path)


def test_a_share_of_nothing_is_no_other_mix(tmp_path) -> None:
    whole = {"effectiveness": 1.0, "ood": 0.0, "typos": 0.0}
    made = sweep(tmp_path, {"mix": [whole, "effectiveness", {"ood": 0.0, "effectiveness": 1.0}, "equal"]})
    assert [default_label(point.recipe) for point in made.points] == ["effectiveness only", "equal mix"]
    assert made.points[0].recipe.mix == whole

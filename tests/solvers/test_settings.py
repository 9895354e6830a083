"""What users get wrong: one line that names the solver, the keyword and the nearest valid name."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from mogrid.solvers import (
    MGDA,
    FixedWeights,
    ParetoTarget,
    SolverError,
    StepStatistics,
    available,
    from_config,
)
from tests.solvers.cases import ALL, NAMES, make

AB = ("id", "ood")

WRONG: list[tuple[Any, str]] = [
    ("mgdaa", "unknown solver 'mgdaa'; did you mean 'mgda'?"),
    ({"name": "paretotargets"}, "unknown solver 'paretotargets'; did you mean 'pareto_target'?"),
    ("", "unknown solver ''"),
    ({"name": None}, "unknown solver None"),
    ({"solver": "mgda"}, "solver: settings need 'name', got 'solver'"),
    (3, "solver: expected a name or a mapping with 'name', got 3"),
    ({"name": "mgda", "bound": 0.1}, "solver mgda: no setting 'bound'; did you mean 'bounds'?"),
    ("pareto_target", "solver pareto_target: the setting 'preference' is missing"),
    ({"name": "pareto_target", "preference": 1.0}, "pareto_target: preference must give one number an objective"),
    (
        {"name": "pareto_target", "preference": {"a": 0.0}},
        "pareto_target: preference['a'] must be finite and above 0",
    ),
    (
        {"name": "pareto_target", "preference": [1.0, float("inf")]},
        "pareto_target: preference[1] must be finite",
    ),
    ({"name": "cagrad", "c": "small"}, "cagrad: c must be a number, got 'small'"),
    (
        {"name": "fixed", "weights": {"a": "1e-3"}},
        "fixed: weights['a'] must be a number, got '1e-3' (YAML reads 1e-3 as text: write 1.0e-3)",
    ),
    ({"name": "cagrad", "c": True}, "cagrad: c must be a number, got True"),
    ({"name": "cagrad", "c": -1}, "cagrad: c must be finite and at least 0, got -1"),
    ({"name": "mgda", "normalise": "l1"}, "mgda: normalise 'l1' is unknown; did you mean 'l2'?"),
    ({"name": "dwa", "window": 1.5}, "dwa: window must be a whole number, got 1.5"),
    ({"name": "dwa", "window": 0}, "dwa: window must be at least 1, got 0"),
    ({"name": "every_n", "solver": "mgdaa"}, "unknown solver 'mgdaa'; did you mean 'mgda'?"),
    ({"name": "every_n", "solver": 3}, "every_n: solver must be a Solver, got 3"),
    ({"name": "every_n", "solver": "moco"}, "every_n: 'moco' tracks gradients, so it needs those of each step"),
    (
        {"name": "ema", "solver": {"name": "every_n", "solver": "mgda"}},
        "ema: put 'every_n' around 'ema', not inside it",
    ),
    ({"name": "ema", "solver": "famo"}, "ema: solver must need the Gramian, 'famo' needs losses"),
    ({"name": "pareto_mtl", "vectors": [[1, 0]], "sector": 0}, "pareto_mtl: vectors must be a list of at least two"),
    ({"name": "pareto_mtl", "vectors": [[1, 0], [0, 1]], "sector": 2}, "pareto_mtl: sector must be below 2"),
    (
        {"name": "fixed", "weights": [0.5, 0.6]},
        "fixed: weights must sum to 1, they sum to 1.1; normalised they are [",
    ),
    ({"name": "fixed", "weights": {"a": 3, "b": 1}}, "they sum to 4; normalised they are {'a': 0.75, 'b': 0.25}"),
    ({"name": "fixed", "weights": [-0.5, 1.5]}, "fixed: weights[0] must be finite and at least 0, got -0.5"),
    ({"name": "fixed", "weights": [0.0, 0.0]}, "fixed: weights must sum to 1, they sum to 0"),
    ({"name": "fixed", "weights": [float("nan"), 1.0]}, "fixed: weights[0] must be finite"),
]


@pytest.mark.parametrize(("config", "message"), WRONG, ids=[m[:40] for _, m in WRONG])
def test_wrong_settings(config: Any, message: str) -> None:
    with pytest.raises(SolverError, match=re.escape(message)) as caught:
        from_config(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("CAGrad", "cagrad"),
        ("NashMTL", "nash_mtl"),
        ("MGDA", "mgda"),
        ("nash-mtl", "nash_mtl"),
        ("Nash MTL", "nash_mtl"),
        ("AlignedMTL", "aligned_mtl"),
        ("IMTL-G", "imtl_g"),
        ("ConstrainedDescent", "constrained"),
        ("FixedWeights", "fixed"),
        ("STCH", "smooth_tchebycheff"),
        ("ew", "fixed"),
        ("GLS", "geometric_mean"),
    ],
)
def test_names_go_by_any_spelling(spelling: str, name: str) -> None:
    given = {"primary": "id"} if name == "constrained" else {}
    assert from_config({"name": spelling, **given}).name == name
    if not given:
        assert from_config(spelling).name == name


def test_no_two_solvers_share_a_spelling() -> None:
    spellings = [{n.replace("_", "").lower() for n in (name, cls.__name__)} for name, cls in available().items()]
    assert sum(map(len, spellings)) == len(set().union(*spellings))


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    assert from_config({"name": "cagrad", "c": "1e-3"}).c == 0.001


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (FixedWeights({"id": 0.5, "odd": 0.5}), "fixed: weights names no objective 'odd'; did you mean 'ood'?"),
        (FixedWeights({"id": 1.0}), "fixed: weights has no value for objective 'ood'"),
        (FixedWeights([1.0]), "fixed: weights has 1 values for 2 objectives (id, ood)"),
        (ParetoTarget({"id": 1.0}), "pareto_target: preference has no value for objective 'ood'"),
        (MGDA({"oood": 0.1}), "mgda: bounds names no objective 'oood'; did you mean 'ood'?"),
        (
            from_config({"name": "constrained", "primary": "odd"}),
            "constrained: primary names no objective 'odd'",
        ),
        (
            from_config({"name": "every_n", "solver": {"name": "upgrad", "preference": [1.0]}}),
            "upgrad: preference has",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_names_are_checked_before_the_first_forward(solver: Any, message: str) -> None:
    with pytest.raises(SolverError, match=re.escape(message)):
        solver.active(AB)


def test_unknown_or_misordered_objectives_at_solve() -> None:
    statistics = StepStatistics(("ood", "id"), losses=torch.ones(2), gramian=torch.eye(2))
    assert FixedWeights({"id": 0.8, "ood": 0.2}).weights(statistics).tolist() == [0.2, 0.8]
    with pytest.raises(SolverError, match="there are no objectives"):
        FixedWeights().weights(StepStatistics(()))


def test_zero_weight_is_inactive() -> None:
    assert FixedWeights({"id": 1.0, "ood": 0.0}).active(AB) == (True, False)
    assert FixedWeights().active(AB) == (True, True)
    assert MGDA().active(AB) == (True, True)


def test_weights_within_rounding_of_one_are_taken() -> None:
    third = [0.333333, 0.333333, 0.333334]
    assert FixedWeights(third).weights(StepStatistics(("a", "b", "c"))).tolist() == third


@pytest.mark.parametrize("name", ALL)
def test_every_solver_comes_from_config(name: str) -> None:
    solver = make(name, NAMES[:3])
    assert type(solver) is available()[name]
    assert solver.needs in ("nothing", "losses", "gramian")
    assert len(solver.active(NAMES[:3])) == 3

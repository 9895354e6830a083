"""Every preset is a valid configuration, and what the documentation calls it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from mogrid.config import read_yaml
from mogrid.experiment.settings import ExperimentSettings
from mogrid.experiment.sweep import SweepSettings

PRESETS = Path(__file__).parents[2] / "benchmarks" / "presets"


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_experiments(path: Path) -> None:
    assert read_yaml(path).parse(ExperimentSettings).weights


@pytest.mark.parametrize("path", sorted((PRESETS / "scaling").glob("*.yaml")), ids=lambda path: path.stem)
def test_sweeps(path: Path) -> None:
    settings = read_yaml(path).parse(SweepSettings)
    assert len(settings.weights) >= 9
    assert max(settings.scales[0].pairs) >= 10 * min(settings.scales[0].pairs)
    assert len(settings.scales[0].seeds) >= 3
    for strategies in settings.strategies:
        scale = next(scale for scale in settings.scales if scale.size == strategies.size)
        assert strategies.pairs in scale.pairs


def test_both_machines_have_one() -> None:
    assert {path.stem for path in (PRESETS / "scaling").glob("*.yaml")} == {"cpu", "gpu"}

"""BGE's style in an experiment: unit embeddings, an instruction before queries, hard negatives, all where they belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mogrid.config import read_yaml
from mogrid.data import read_collection
from mogrid.experiment.cells import DataSource, run_cell
from mogrid.experiment.plan import Plan
from mogrid.experiment.settings import ExperimentSettings
from mogrid.experiment.training import training_datasets
from mogrid.runs import RunStore
from tests.training.tiny import write_data

PRESET = Path(__file__).parents[2] / "benchmarks" / "presets" / "bge.yaml"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bge")
    write_data(folder / "data")
    preset = read_yaml(PRESET).parse(ExperimentSettings)
    settings = preset.model_copy(
        update={
            "encoder": preset.encoder.model_copy(update={"size": "1x32", "vocabulary": 300, "max_length": 24}),
            "training": preset.training.model_copy(update={"batch_size": 4, "budget": 1e9}),
            "evaluation": preset.evaluation.model_copy(update={"attack_targets": 0}),
            "seeds": [0],
        }
    )
    return settings, DataSource(folder / "data"), folder / "store"


def test_hard_negatives_are_of_the_domain_and_no_positives(experiment) -> None:
    settings, source, _ = experiment
    collection = source.load()
    datasets = training_datasets(collection, settings, seed=0)
    home = set(collection.source.corpus.values())
    for row in datasets["effectiveness"]:
        assert row["negative_1"] in home
        assert row["negative_1"] != row["document"]
    assert "negative_1" in datasets["ood"].column_names
    assert "negative_1" not in datasets["adversarial"].column_names


def test_a_run_trains_and_keeps_its_style(experiment) -> None:
    from sentence_transformers import SentenceTransformer

    settings, source, store = experiment
    plan = Plan(settings, source, read_collection(source.folder), store)
    (cell,) = plan.fixed_cells({"effectiveness": 0.34, "ood": 0.33, "adversarial": 0.33}, "solver", "equal")
    run_cell(cell, lambda share: None, lambda: False)
    record = RunStore(store).read(cell.name)
    assert record.flops["total"] == pytest.approx(1e9, rel=0.1)
    steps = RunStore(store).steps(cell.name)
    assert np.mean([s["loss/effectiveness"] for s in steps[-3:]]) < np.mean(
        [s["loss/effectiveness"] for s in steps[:3]]
    )
    model = SentenceTransformer(str(store / "runs" / cell.name / "model"), device="cpu")
    assert model.prompts["query"] == settings.encoder.query_prompt
    vectors = model.encode_query(["bada gi"]), model.encode_document(["bada gi"])
    assert [float(np.linalg.norm(v)) for v in vectors] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3  # the instruction is read


def test_older_runs_keep_their_names() -> None:
    """A setting that came later counts only where it is used: records made before it are found again."""
    from mogrid.experiment.settings import EncoderSettings, TrainingSettings

    assert not {"normalise", "query_prompt"} & EncoderSettings().identity().keys()
    assert EncoderSettings(normalise=True).identity()["normalise"] is True
    assert not {"negatives", "ood", "batch_sizes"} & TrainingSettings(budget=1.0).identity().keys()
    assert TrainingSettings(budget=1.0, negatives=1).identity()["negatives"] == 1

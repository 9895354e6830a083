"""A training of a second: a made-up data set with learnable pairs, and its configuration."""

from __future__ import annotations

import json
import random
from pathlib import Path

import yaml

SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]


def write_set(
    folder: Path, seed: int, *, documents: int = 60, splits: tuple[str, ...] = ("train", "dev", "test")
) -> None:
    """Write a BEIR folder whose queries are words of their documents."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(SYLLABLES, k=2)) for _ in range(120)]
    texts = [" ".join(rng.choices(words, k=8)) for _ in range(documents)]
    folder.mkdir(parents=True)
    corpus = ({"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(texts))
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    queries, part = [], documents // len(splits)
    (folder / "qrels").mkdir()
    for number, split in enumerate(splits):
        rows = ["query-id\tcorpus-id\tscore"]
        for i in range(number * part, (number + 1) * part):
            queries.append({"_id": f"q{i}", "text": " ".join(rng.sample(texts[i].split(), 3)) + f" {words[i]}"})
            rows.append(f"q{i}\td{i}\t1")
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))


def write_data(folder: Path) -> None:
    """Write a source and four other domains, with their roles."""
    write_set(folder / "home", 0, documents=90)
    for number, name in enumerate(("east", "west")):
        write_set(folder / name, 1 + number, splits=("train",))
    write_set(folder / "north", 3, splits=("dev",))
    write_set(folder / "south", 4, splits=("test",))
    roles = {
        "source": {"folder": "home"},
        "ood": {
            "train": [{"folder": "east"}, {"folder": "west"}],
            "select": [{"folder": "north"}],
            "test": [{"folder": "south"}],
        },
    }
    (folder / "domains.yaml").write_text(yaml.safe_dump(roles))


def settings(**changes: object) -> dict[str, object]:
    """Return the configuration of a training on `write_data`'s sets."""
    value: dict[str, object] = {
        "output": "out",
        "data": "data",
        "seed": 3,
        "model": {"size": "1x32", "towers": 1, "vocabulary": 300, "max_length": 16, "dropout": 0.1},
        "objectives": {
            "effectiveness": {"datasets": [{"path": "home"}]},
            "ood": {"datasets": [{"path": "east"}, {"path": "west"}], "loss": {"name": "group_dro"}},
            "typos": {"datasets": [{"path": "home"}], "perturb": "typos", "loss": "consistency"},
        },
        "spend": "weights",
        "solver": {"name": "ema", "solver": "mgda"},
        "training": {"steps": 12, "batch_size": 4, "learning_rate": 1.0e-2, "checkpoints": 4},
    }
    return value | changes


def write_run(folder: Path, **changes: object) -> Path:
    """Write data and configuration; return the configuration's path."""
    if not (folder / "data").exists():
        write_data(folder / "data")
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(settings(**changes), sort_keys=False))
    return path

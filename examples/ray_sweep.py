"""A sweep whose runs are tasks of Ray: on this machine, or on a cluster whose nodes share the store.

    python examples/ray_sweep.py                                  # two runs at a time, Ray started for the occasion
    python examples/ray_sweep.py --address auto --store /shared/runs --workers 32    # on a node of a cluster

`mogrid sweep YAML --store DIR --executor ray [--ray-address auto]` is the same from the command line. Ctrl-C stops at
checkpoints, and the same command goes on; a worker that dies is replaced, and its run taken up from its checkpoint.
"""

import argparse
import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from mogrid.files import write_json, write_text
from mogrid.sweep import read_sweep, run_sweep

DOMAINS = {"home": ("train", "dev", "test"), "garden": ("train",), "office": ("dev",), "harbour": ("test",)}
RECIPE = {
    "model": {"size": "1x32", "vocabulary": 300, "max_length": 16, "dropout": 0.0},
    "objectives": {
        "effectiveness": {"datasets": "home"},
        "ood": {"datasets": "garden", "judged": "office/dev"},
        "typos": {"datasets": "home", "perturb": "typos", "loss": "consistency"},
    },
    "training": {"pairs": 240, "batch_size": 12, "learning_rate": 0.01},
    "evaluation": {"role": "test", "redraws": 5},
}


def write_domain(folder: Path, splits: tuple[str, ...], documents: int = 60) -> None:
    """Write a folder in BEIR's format, of made-up words; a query is three words of its document."""
    rng = random.Random(folder.name)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ["".join(rng.choices(syllables, k=2)) for _ in range(120)]
    texts = [rng.choices(words, k=8) for _ in range(documents)]
    (folder / "qrels").mkdir(parents=True)
    corpus = [json.dumps({"_id": f"d{i}", "title": "", "text": " ".join(text)}) for i, text in enumerate(texts)]
    queries = [json.dumps({"_id": f"q{i}", "text": " ".join(rng.sample(text, 3))}) for i, text in enumerate(texts)]
    write_text(folder / "corpus.jsonl", "\n".join(corpus) + "\n")
    write_text(folder / "queries.jsonl", "\n".join(queries) + "\n")
    for number, split in enumerate(splits):
        rows = [f"q{i}\td{i}\t1" for i in range(number, documents, len(splits))]
        write_text(folder / "qrels" / f"{split}.tsv", "\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", help="of a Ray cluster; by default Ray is started on this machine")
    parser.add_argument("--store", type=Path, help="on a file system of all nodes; by default a temporary folder")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.address is not None and arguments.store is None:
        parser.error("nodes of a cluster need --store, a folder that all of them see")
    with TemporaryDirectory() as temporary:
        store = arguments.store or Path(temporary)
        data = store / "data"
        if not (data / "domains.yaml").exists():
            for name, splits in DOMAINS.items():
                write_domain(data / name, splits)
            ood = {"train": ["garden"], "select": ["office"], "test": ["harbour"]}
            entries = {role: [{"folder": name} for name in names] for role, names in ood.items()}
            write_json(data / "domains.yaml", {"source": {"folder": "home"}, "ood": entries})  # JSON is YAML
        recipe = {"data": str(data), **RECIPE}
        sweep = {"recipe": recipe, "vary": {"mix": ["corners", "equal"]}, "workers": arguments.workers}
        write_json(store / "sweep.yaml", sweep)
        records = run_sweep(
            read_sweep(store / "sweep.yaml"), store, Console(), executor="ray", ray_address=arguments.address
        )
        for record in records:
            print(f"{record.label:20} {record.steps:3} steps, {record.seconds['judging']:.1f} s of judging")


if __name__ == "__main__":
    main()

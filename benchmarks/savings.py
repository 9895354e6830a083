"""What each way of making training cheap saves: ``python -m benchmarks.savings [--only NAME ...]``.

On the main job's recipe, every saving is a pair of works that differ in it alone: a few whole training steps (from
rows to weights: tokens, losses, backward, clipping, optimiser), the encoding of a corpus, or a judging. Time: CPU
seconds on one thread, with and without in turn in one process, after one of each that does not count. Told are the
median and the range, over rounds, of how many times as fast it is with the saving. Where a saving must not change what
comes out, losses, gradients' lengths, embeddings or measures of both are compared in every round, and it is an error
(exit code 1) if they differ by more than 1e-4. Writes ``savings.json``.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Literal
from unittest.mock import patch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from mogrid.attacks.registry import attack_for
from mogrid.commands._common import quiet
from mogrid.data import Domain, Role
from mogrid.errors import ConfigError, MogridError
from mogrid.evaluation import JudgedSplit, judge, sample_domain
from mogrid.files import write_json
from mogrid.report.table import Table, printer
from mogrid.retrieval import encode, freezing
from mogrid.retrieval.adapters import sparse_embeddings
from mogrid.retrieval.linear import _product, fast_products
from mogrid.retrieval.tokens import remembering
from mogrid.runs import versions
from mogrid.training import Materials, materials, read_recipe
from mogrid.training.fit import build_base, build_trainer

__all__ = ["main"]

RECIPE = Path(__file__).parent / "recipes" / "dpr.yaml"
NEAR = 1e-4
SURE = 0.02  # of a time: less than what two timings of one work differ by
DOCUMENTS, QUERIES, BATCH_TOKENS = 100, 6, 2048
WHOLE: Mapping[str, Any] = {"model.freeze": None}
THIN: Mapping[str, Any] = {**WHOLE, "model.layers": 1}

Values = NDArray[np.float64]
_encoding = sys.modules["mogrid.retrieval.encode"]  # the package calls a function by the module's name


@dataclass(frozen=True)
class Work:
    """One of the two works of a saving.

    Attributes
    ----------
    do : callable
        What is timed; returns the numbers that must be equal with and without a saving that changes nothing.
    count : int
        Pairs that are trained on, or texts that are encoded.
    prepare : callable
        Not timed, before each time.
    """

    do: Callable[[], Values]
    count: int
    prepare: Callable[[], None] = lambda: None


Give = Callable[[Mapping[str, Any]], Materials]
"""From changes to the recipe, by dotted key, to its materials."""


def training(
    give: Give,
    scratch: Path,
    changes: Mapping[str, Any],
    *,
    steps: int = 1,
    layers: Literal["known", "new", "computed"] = "known",
    tokens: Literal["known", "computed", "longest"] = "known",
    sparse: bool = True,
    fast: bool = True,
) -> Work:
    """Return the first steps of a training, always the same ones: from the same weights, on the same rows.

    Parameters
    ----------
    give : callable
    scratch : Path
        A folder for what a trainer writes.
    changes : mapping of dotted keys
    steps : int
    layers : str
        What frozen layers make of a text is remembered and known already, remembered for the first time, or computed.
    tokens : str
        Likewise; or remembered, and padded to the longest text that the model admits.
    sparse, fast : bool
        Whether embeddings have sparse gradients, and oneDNN multiplies, as in every training of mogrid's.
    """
    given = give(changes)
    model = build_base(given.recipe, given.datasets, given.base)
    if layers == "computed":
        _forgetful(model)
    trainer = build_trainer(given.recipe, model, given.datasets, Path(tempfile.mkdtemp(dir=scratch)), 1000)
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    optimiser: Any = trainer.optimizer
    collator: Any = trainer.data_collator
    if tokens != "known":
        collator.preprocess_fn = model.preprocess if tokens == "computed" else _padded(model)
    loader: Any = trainer.joint_dataloader()
    rows = [loader.dataset.__getitems__(keys) for keys in islice(loader.batch_sampler, steps)]
    trained = {parameter: parameter.detach().clone() for parameter in model.parameters() if parameter.requires_grad}

    def prepare() -> None:
        with torch.no_grad():
            for parameter, value in trained.items():
                parameter.copy_(value)
        # What the optimiser keeps is there from the warm-up on, as in all steps of a training but the first.
        for tensor in (t for kept in optimiser.state.values() for t in kept.values() if isinstance(t, Tensor)):
            tensor.zero_()
        if layers == "new":
            _forget()
        torch.manual_seed(0)  # of dropout

    def do() -> Values:
        found: list[float] = []
        with sparse_embeddings(model) if sparse else nullcontext(), fast_products(model) if fast else nullcontext():
            for batch in rows:
                trainer.training_step(model, loader.collate_fn(batch))
                length = torch.nn.utils.clip_grad_norm_(list(trained), trainer.args.max_grad_norm or float("inf"))
                optimiser.step()
                optimiser.zero_grad()
                found += [float(length), *(trainer.last_step.losses.values() if trainer.last_step else ())]
        return np.array(found)

    return Work(do, steps * given.recipe.training.batch_size, prepare)


def _forget() -> None:
    freezing._KNOWN.clear()
    freezing._held = 0


def _forgetful(model: torch.nn.Module) -> None:
    """Give layers that remember their own forward back: `freeze` does so where a model does not admit a memory."""
    for module in model.modules():
        own = module.__dict__.get("forward")
        if own is freezing._passed or isinstance(own, freezing._Lower):
            delattr(module, "forward")


def _padded(model: Any) -> Callable[..., Mapping[str, Any]]:
    """Return a ``preprocess`` whose rows are all as long as the model admits; a mask of 0 hides whatever id pads."""
    shortest = remembering(model)

    def preprocess(*given: Any, **named: Any) -> Mapping[str, Any]:
        features = shortest(*given, **named)
        wide = {k: v for k, v in features.items() if isinstance(v, Tensor) and v.ndim == 2}
        return {**features, **{k: pad(v, (0, model.max_seq_length - v.shape[1])) for k, v in wide.items()}}

    return preprocess


def encoding(give: Give, scratch: Path, *, by_length: bool) -> Work:
    """Return the encoding of documents by the whole base model, sorted by length or as they come."""
    given = give(WHOLE)
    model = given.build()
    texts = list(dict.fromkeys(_source(given).corpus.values()))[:DOCUMENTS]

    def do() -> Values:
        # There is no switch: what cuts tokenised texts into batches is replaced by what cuts them in another order.
        with nullcontext() if by_length else patch.object(_encoding, "_batches", _unsorted):
            vectors = encode(model, texts, "document", batch_tokens=BATCH_TOKENS, preprocess=remembering(model))
        return vectors.astype(np.float64)

    return Work(do, len(texts))


def _unsorted(features: Mapping[str, Any], tokens: int) -> Iterator[tuple[NDArray[np.intp], dict[str, Any]]]:
    """Cut texts into batches of as many padded tokens as `encode` has, in an order that is drawn."""
    used = features["attention_mask"].sum(dim=1).tolist()
    batches: list[list[int]] = [[]]
    for row in np.random.default_rng(0).permutation(len(used)).tolist():
        if batches[-1] and (len(batches[-1]) + 1) * max(used[i] for i in (*batches[-1], row)) > tokens:
            batches.append([])
        batches[-1].append(row)
    for rows in batches:
        longest = max(used[i] for i in rows)
        cut = {k: v[rows][:, :longest] if isinstance(v, Tensor) and v.ndim == 2 else v for k, v in features.items()}
        yield np.array(rows), cut


def judgement(give: Give, scratch: Path, *, together: bool) -> Work:
    """Return the judging of the whole base model, of two roles, clean and under typos, on one corpus.

    Apart, each of the four encodes the corpus; with typos `judge` reads the clean queries too, a few short texts.
    """
    given = give(WHOLE)
    model = given.build()
    domain = sample_domain(_source(given), QUERIES, DOCUMENTS // 5)
    asked = [
        JudgedSplit(domain, role, {"typos": attack_for("typos", role)} if typos else {})
        for role in (Role.SELECT, Role.TEST)
        for typos in (False, True)
    ]
    own = partial(judge, model, temperature=0.05, redraws=2, preprocess=remembering(model))

    def do() -> Values:
        results = own(asked[1::2]) if together else [own([split])[-1] for split in asked]
        return np.array([v for r in results for values in (r.ndcg, r.ce or {}) for v in values.values()])

    return Work(do, len(domain.corpus) + sum(2 * len(domain.split(role).queries) for role in (Role.SELECT, Role.TEST)))


def _source(given: Materials) -> Domain:
    if given.library.collection is None:
        raise ConfigError("the recipe names no collection whose source could be encoded")
    return given.library.collection.source


@dataclass(frozen=True)
class Saving:
    """Two works, by what the table calls them and by what they give `make`; `same` if both must come to the same."""

    cheap: str
    dear: str
    with_: Mapping[str, Any]
    without: Mapping[str, Any]
    same: bool = True
    make: Callable[..., Work] = training
    unit: str = "pairs"


_ALL: dict[str, Any] = {"changes": WHOLE}
_ONE: dict[str, Any] = {"changes": THIN, "steps": 2}
_STILL: dict[str, Any] = {"changes": {**THIN, "model.freeze": "embeddings"}, "steps": 2}
_LORA: dict[str, Any] = {"changes": {**WHOLE, "model.lora": {"rank": 8}}}
_LOWER: dict[str, Any] = {"changes": {}, "steps": 2}
_TOKENS: dict[str, Any] = {"changes": {}, "steps": 2}
_SMALL: dict[str, Any] = {"changes": {"model": {"size": "1x64", "max_length": 64}}, "steps": 8}
_STEADY: dict[str, Any] = {"changes": {"model.dropout": 0}, "steps": 2}  # dropout would draw otherwise in another shape
_COMPUTED = {"layers": "computed"}
_ANEW = {"tokens": "computed"}

SAVINGS = {
    "recipe": Saving("lower layers frozen, remembered", "whole model", {"changes": {}}, _ALL, same=False),
    "frozen": Saving("lower layers frozen, computed", "whole model", {"changes": {}} | _COMPUTED, _ALL, same=False),
    "layers-known": Saving("frozen layers remembered, texts known", "computed", _LOWER, _LOWER | _COMPUTED),
    "layers-new": Saving("the same, texts new", "computed", _LOWER | {"layers": "new"}, _LOWER | _COMPUTED),
    "tokens": Saving("tokens remembered", "tokenised anew", _TOKENS, _TOKENS | _ANEW),
    "tokens-small": Saving("the same, 1x64 from scratch", "tokenised anew", _SMALL, _SMALL | _ANEW),
    "depth": Saving("one layer", "whole model", {"changes": THIN}, _ALL, same=False),
    "embeddings": Saving(
        "one layer, embeddings frozen", "dense gradients", _STILL, _ONE | {"sparse": False}, same=False
    ),
    "sparse": Saving("one layer, sparse gradients", "dense gradients", _ONE, _ONE | {"sparse": False}),
    "lora": Saving("LoRA of rank 8", "whole model", _LORA, _ALL, same=False),
    "padding": Saving("padded to a batch's longest", "to the most", _STEADY, _STEADY | {"tokens": "longest"}),
    "onednn": Saving("whole model, oneDNN's products", "torch's own", _ALL, _ALL | {"fast": False}),
    "length": Saving(
        "encoded by length", "as texts come", {"by_length": True}, {"by_length": False}, make=encoding, unit="texts"
    ),
    "judging": Saving(
        "judged together", "each condition apart", {"together": True}, {"together": False}, make=judgement, unit="texts"
    ),
}


def measured(saving: Saving, give: Give, scratch: Path, rounds: int) -> dict[str, Any]:
    """Return times, ratios and the largest difference of one saving."""
    _forget()
    sides = {
        "with": saving.make(give, scratch, **saving.with_),
        "without": saving.make(give, scratch, **saving.without),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    apart = 0.0
    for round_ in range(rounds + 1):
        values: dict[str, Values] = {}
        for name in sides if round_ % 2 else reversed(sides):  # what drifts during a round then favours nobody
            sides[name].prepare()
            gc.collect()
            started = time.process_time()
            values[name] = sides[name].do()
            if round_ > 0:
                seconds[name].append(time.process_time() - started)
        if saving.same:
            difference = np.abs(values["with"] - values["without"]) / np.maximum(np.abs(values["without"]), 1)
            apart = max(apart, float(difference.max()))
    ratios = [dear / cheap for cheap, dear in zip(seconds["with"], seconds["without"], strict=True)]
    return {
        "with": saving.cheap,
        "without": saving.dear,
        "ratio": round(median(ratios), 3),
        "range": [round(min(ratios), 3), round(max(ratios), 3)],
        "rate": round(sides["with"].count / median(seconds["with"]), 1),
        "unit": saving.unit,
        "seconds": {name: [round(value, 4) for value in own] for name, own in seconds.items()},
        "difference": apart if saving.same else None,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write it as JSON; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.savings", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="times that each is measured (default: 3)")
    parser.add_argument("--only", action="append", choices=SAVINGS, metavar="NAME", help=", ".join(SAVINGS))
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="with frozen layers (default: the main job's)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/savings.json"))
    arguments = parser.parse_args(argv)
    quiet()
    torch.set_num_threads(1)
    found: dict[str, dict[str, Any]] = {}
    left_out = ""
    setting = {"recipe": arguments.recipe.name, "rounds": arguments.rounds, "threads": 1}
    try:
        if arguments.rounds < 1:
            raise ConfigError(f"--rounds must be at least 1, got {arguments.rounds}")
        recipe, base = read_recipe(arguments.recipe), arguments.recipe.parent
        if not isinstance(recipe.model.freeze, int):
            raise ConfigError("model.freeze: the recipe must freeze lower layers; what that saves is measured")

        def give(changes: Mapping[str, Any]) -> Materials:
            return materials(recipe.change(changes), base)

        with tempfile.TemporaryDirectory(prefix="mogrid-") as folder:
            scratch = Path(folder)
            for name in arguments.only or SAVINGS:
                if name == "onednn" and _product() is None:
                    left_out = "; onednn is left out: this processor or torch has none"
                    continue
                found[name] = measured(SAVINGS[name], give, scratch, arguments.rounds)
                # Again after each: minutes of measuring are not lost when the command is stopped.
                write_json(arguments.out, {"setting": setting, "versions": versions(), "savings": found})
    except MogridError as error:
        print(f"savings: {error}", file=sys.stderr)
        return 2
    printer().print(_table(found, left_out))
    changed = {name: row["difference"] for name, row in found.items() if not (row["difference"] or 0.0) <= NEAR}
    for name, difference in changed.items():
        print(f"savings: {name} changes what comes out, by {difference:.1e}", file=sys.stderr)
    return 1 if changed else 0


def _table(found: Mapping[str, Mapping[str, Any]], left_out: str) -> Table:
    rows = []
    for name, row in found.items():
        low, high = row["range"]
        said = "yes" if low > 1 + SURE else "costs" if high < 1 - SURE else "nothing sure"
        same = "" if row["difference"] is None else f"{row['difference']:.0e}"
        rate = f"{row['rate']:.0f} {row['unit']}"
        rows.append(
            (name, row["with"], row["without"], f"{row['ratio']:.2f}", f"{low:.2f}-{high:.2f}", rate, same, said)
        )
    columns = ("saving", "with", "without", "times as fast", "range", "with it, a second", "differ by", "saves")
    note = f"CPU time on one thread, without over with: median and range over rounds, sure beyond {SURE:.0%}{left_out}"
    return Table("what is saved", columns, rows, note, left=frozenset({0, 1, 2, 7}))


if __name__ == "__main__":
    sys.exit(main())

"""What came of a merge: its tables, what is said of it, and the folder of the merged model with its card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mogrid.evaluation import PairedTest
from mogrid.files import write_json, write_text
from mogrid.frontier.merges import Merges
from mogrid.report.figures.merges import plot_merges
from mogrid.report.table import Table, cell, mark, markdown_text

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["RECORD", "asked_of", "front_table", "said_of", "test_table", "write_merge"]

RECORD = "merge.json"


def front_table(merges: Merges, chosen: int) -> Table:
    best = merges.front()
    half = (merges.high - merges.low) / 2
    rows = [
        (*(cell(share, digits=2) for share in merges.shares[i]), *map(cell, merges.values[i], half[i]),
         "chosen" if i == chosen else "front" if best[i] else "")
        for i in range(len(merges.shares))
    ]  # fmt: skip
    return Table(
        "Merges on select-role data", (*merges.names, *merges.objectives, ""), rows,
        note="shares of the models, and nDCG@10 ± half of a 95 % interval over queries",
        highlight=frozenset({chosen}), left=frozenset({len(merges.names) + len(merges.objectives)}),
    )  # fmt: skip


def test_table(tests: Mapping[tuple[str, str], PairedTest]) -> Table:
    rows = [
        (f"{objective}, against {model}", f"{test.difference:+.3f}{mark(test.difference, test.p_value)}",
         f"{test.low:+.3f} to {test.high:+.3f}", f"{test.p_value:.3f}", str(test.queries))
        for (objective, model), test in tests.items()
    ]  # fmt: skip
    return Table(
        "The chosen merge on test-role data", ("objective", "gain", "95 %", "p", "queries"), rows,
        note="nDCG@10 over each of its models; ▲ ▼ p < .05, paired, Holm",
    )  # fmt: skip


def said_of(merges: Merges, chosen: int) -> list[str]:
    lines = []
    for basin in merges.basins():
        worst = max(basin.barrier, key=lambda name: basin.barrier[name])
        said = (
            f"{basin.ends[0]} to {basin.ends[1]}: the path's barrier is {basin.barrier[worst]:+.3f} nDCG@10 ({worst})"
        )
        lines.append(said if basin.shared else f"{said}; the models share no basin: merging them does not pay")
    if merges.shares[chosen].max() > 1 - 1e-9:
        name = merges.names[int(merges.shares[chosen].argmax())]
        lines.append(f"nothing is merged: {name} alone is the best of these for what was asked")
    return lines


def asked_of(objectives: Sequence[str], record: Mapping[str, Any]) -> str:
    """Return in words what the merge was chosen by."""
    preference = record["preference"]
    if record["knee"]:
        by = "as the front's knee"
    elif preference is None:
        by = f"by the mean of {', '.join(objectives)}"
    else:
        by = f"by the preference {', '.join(f'{name} {weight:g}' for name, weight in preference.items())}"
    least = ", ".join(f"{name} ≥ {value:.4f}" for name, value in record["at_least"].items())
    return f"chosen {by}{f', of those with {least}' if least else ''}, on select-role data"


def write_merge(
    out: Path,
    merged: SentenceTransformer,
    merges: Merges,
    chosen: int,
    record: Mapping[str, Any],
    tables: Sequence[Table],
    said: Sequence[str],
) -> None:
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    merged.save_pretrained(str(partial), create_model_card=False)
    plot_merges(partial / "merges.png", merges, chosen)
    shares = ", ".join(f"{markdown_text(name)} {share:.3g}" for name, share in record["shares"].items())
    head = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "mogrid", "dense-retrieval", "merge"],
        "base_model": record["base"] or list(record["shares"]),
    }
    lines = [
        "---", yaml.safe_dump(head, sort_keys=False).strip(), "---", "", f"# {markdown_text(out.name)}", "",
        f"A dense retriever merged with mogrid ({record['method']}): {shares}.", "", "```python",
        "from sentence_transformers import SentenceTransformer", "",
        f'model = SentenceTransformer("{markdown_text(out.name)}")', "```", "",
    ]  # fmt: skip
    for table in tables:
        lines += [f"## {table.title}", "", table.markdown()]
    lines += [
        "![nDCG@10 by shares](merges.png)",
        "",
        *(f"- {markdown_text(line)}" for line in said),
        "",
    ]
    write_text(partial / "README.md", "\n".join(lines))
    write_json(partial / RECORD, record)
    partial.rename(out)

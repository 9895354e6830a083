"""The main job in BGE's style: one shared encoder, CLS, unit embeddings, temperature .02, instruction, hard negatives.

    python -m benchmarks.bge --data DIR --domains FILE.yaml    # BEIR folders; without --data, the embedded data

All options of `benchmarks.dpr`; what differs is benchmarks/presets/bge.yaml. BM25 finds hard negatives.
"""

from __future__ import annotations

import sys

from benchmarks.dpr import main as dpr

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return the process's exit code."""
    return dpr(argv, style="bge", preset="bge")


if __name__ == "__main__":
    sys.exit(main())

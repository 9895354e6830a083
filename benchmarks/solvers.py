"""How exact and how fast the solvers are, beside TorchJD's: ``python -m benchmarks.solvers``.

Exactness: on random and ill-conditioned Gramians, a bound on each solution's suboptimality that is computed here, from
the weights alone where these determine it. Speed: time per call with the Gramian given, one thread, checks and gap
included; both sides run in turns in one process. Writes ``solvers.json`` and ``solvers.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray

from mogrid.solvers import MGDA, CAGrad, DualProj, FairGrad, NashMTL, ParetoTarget, Solver, StepStatistics, UPGrad

Array = NDArray[np.float64]
Weighting = Callable[[torch.Tensor], torch.Tensor]

COUNTS = (2, 3, 8, 32, 64)
LABELS = {
    "mgda": "MGDA",
    "upgrad": "UPGrad",
    "dualproj": "DualProj",
    "cagrad": "CAGrad",
    "fairgrad": "FairGrad",
    "nash_mtl": "Nash-MTL",
    "pareto_target": "ParetoTarget",
}
# Times faster than TorchJD that the project promises, by method and K.
TARGETS: dict[str, dict[int, float]] = {
    "mgda": {2: 5, 3: 20, 8: 10, 32: 5},
    "upgrad": dict.fromkeys((2, 3, 8, 32), 2),
    "cagrad": dict.fromkeys((2, 3, 8, 32), 50),
    "fairgrad": dict.fromkeys((2, 3, 8, 32), 5),
    "nash_mtl": {32: 100},
}


def solver(method: str, count: int) -> Solver:
    made: dict[str, Callable[[], Solver]] = {
        "mgda": MGDA,
        "upgrad": UPGrad,
        "dualproj": DualProj,
        "cagrad": lambda: CAGrad(0.5),
        "fairgrad": lambda: FairGrad(1.0),
        "nash_mtl": NashMTL,
        "pareto_target": lambda: ParetoTarget([1.0] * count),
    }
    return made[method]()


def peer(method: str, count: int) -> Callable[[Array, torch.Tensor], torch.Tensor] | None:
    """TorchJD's weights for a Jacobian and its Gramian; None where it has no such method."""
    from torchjd import aggregation

    if method == "nash_mtl":
        # Takes Jacobians, and keeps a programme and a warm start from call to call.
        aggregator = aggregation.NashMTL(n_tasks=count)
        return lambda jacobian, _: aggregator(torch.from_numpy(jacobian))
    made: dict[str, Callable[[], Weighting]] = {
        "mgda": aggregation.MGDAWeighting,
        "upgrad": aggregation.UPGradWeighting,
        "dualproj": aggregation.DualProjWeighting,
        "cagrad": lambda: aggregation.CAGradWeighting(c=0.5),
        "fairgrad": lambda: aggregation.FairGradWeighting(alpha=1.0),
    }
    if method not in made:
        return None
    weighting = made[method]()
    return lambda _, gramian: weighting(gramian)


def jacobians(count: int, number: int, seed: int) -> list[Array]:
    """Half well-behaved; of the rest a third each with norms over six decades, low rank, and nearly parallel rows."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(number):
        j = rng.standard_normal((count, int(rng.integers(count, 3 * count + 1))))
        if i % 6 == 1:
            j *= 10.0 ** rng.uniform(-3, 3, (count, 1))
        elif i % 6 == 3:
            j = rng.standard_normal((count, max(1, count // 2))) @ j[: max(1, count // 2)]
        elif i % 6 == 5:
            j = j[:1] + 10.0 ** rng.uniform(-6, -1) * j
        made.append(j)
    return made


def suboptimality(method: str, gramian: Array, weights: Array, gap: float) -> float | None:
    """Upper bound on how far the programme's value is from its optimum, relative to trace(G)/K.

    None where the programme has no optimum: a bargain at a Pareto-stationary point.
    """
    count = len(gramian)
    g = gramian / (gramian.trace() / count)
    improvements = g @ weights
    if method == "mgda":
        return 2.0 * max(float(weights @ improvements - improvements.min()), 0.0)
    if method == "dualproj":
        norms = np.sqrt(g.diagonal())
        multipliers = weights - 1.0 / count
        violation = float(np.maximum(-improvements / norms, 0.0).max())
        return abs(float(multipliers @ improvements)) + violation * float(multipliers @ norms)
    if method == "cagrad":
        mean = np.full(count, 1.0 / count)
        x = weights - mean
        radius = 0.5 * np.sqrt(mean @ g @ mean)
        length = np.sqrt(max(float(x @ g @ x), 0.0))
        if length > radius * (1 + 1e-9):
            return float("inf")
        hull = MGDA().weights(statistics(g)).numpy()
        duals = [
            float(mean @ g @ w + radius * np.sqrt(max(float(w @ g @ w), 0.0))) for w in (x / max(x.sum(), 1e-300), hull)
        ]
        return max(min(duals) - float(improvements.min()), 0.0)
    if method in ("fairgrad", "nash_mtl"):
        hull = MGDA().weights(statistics(g)).numpy()
        if hull @ g @ hull < 1e-10:
            return None
        # The value is self-concordant; within a Newton decrement d < 1/4 it is at most d² above its minimum.
        scaled = weights if method == "fairgrad" else weights / np.sqrt(np.linalg.norm(g))
        residual = g @ scaled - 1.0 / scaled
        newton = np.linalg.solve(g + np.diag(scaled**-2.0), residual)
        return float(residual @ newton)
    return gap


def statistics(gramian: Array) -> StepStatistics:
    count = len(gramian)
    losses = torch.linspace(1.0, 2.0, count, dtype=torch.float64)
    return StepStatistics(tuple(map(str, range(count))), losses, torch.from_numpy(gramian))


def exactness(number: int, peers: bool) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for method in LABELS:
        result[method] = {}
        for count in COUNTS:
            ours = solver(method, count)
            bounds, stationary = [], 0
            for jacobian in jacobians(count, number, seed=count):
                gramian = jacobian @ jacobian.T
                solution = ours.solve(statistics(gramian))
                bound = suboptimality(method, gramian, solution.weights.numpy(), solution.gap)
                stationary += bound is None
                bounds += [] if bound is None else [bound]
            result[method][str(count)] = {"worst": max(bounds), "median": median(bounds), "without_optimum": stationary}
        print(f"exact  {LABELS[method]:<13}" + "  ".join(f"{v['worst']:.1e}" for v in result[method].values()))
    result["mgda_conflicts"] = conflicts(number, peers)
    return result


def conflicts(number: int, peers: bool) -> dict[str, Any]:
    """How many Gramians have an objective that MGDA's step makes worse, by over 1e-9 of trace(G)/K."""
    result: dict[str, Any] = {}
    for count in COUNTS:
        theirs = peer("mgda", count) if peers else None
        made = jacobians(count, number, seed=count)
        found = {"mogrid": 0} | ({"torchjd": 0} if theirs else {})
        for i, jacobian in enumerate(made):
            gramian = jacobian @ jacobian.T
            limit = -1e-9 * gramian.trace() / count
            found["mogrid"] += (gramian @ MGDA().weights(statistics(gramian)).numpy()).min() < limit
            if theirs and i < 200:
                weights = theirs(jacobian, torch.from_numpy(gramian)).numpy()
                found["torchjd"] += (gramian @ weights).min() < limit
        result[str(count)] = {
            name: {"conflicting": int(n), "of": number if name == "mogrid" else min(number, 200)}
            for name, n in found.items()
        }
    return result


def speed(rounds: int, peers: bool) -> dict[str, Any]:
    """Microseconds a call, both sides in turns on the same well-behaved Gramians.

    The lower quartile: what other processes take from the machine shows in the upper half.
    """
    result: dict[str, Any] = {}
    for method in LABELS:
        result[method] = {str(count): race(method, count, rounds, peers) for count in COUNTS}
        print(
            f"speed  {LABELS[method]:<13}"
            + "  ".join(
                f"K={k}: {v['mogrid_us']:.0f} us"
                + (f" ({v['times_faster']:.1f}x, target {v['target'] or '-'})" if "times_faster" in v else "")
                for k, v in result[method].items()
            )
        )
    return result


def race(method: str, count: int, rounds: int, peers: bool) -> dict[str, Any]:
    rng = np.random.default_rng(count)
    names = tuple(map(str, range(count)))
    losses = torch.linspace(1.0, 2.0, count, dtype=torch.float64)
    ours, theirs = solver(method, count), peer(method, count) if peers else None
    own, other = [], []
    for i in range(rounds):
        jacobian = rng.standard_normal((count, 2 * count))
        gramian = torch.from_numpy(jacobian @ jacobian.T)
        start = time.perf_counter()
        ours.solve(StepStatistics(names, losses, gramian))
        own.append(time.perf_counter() - start)
        if theirs and i < max(rounds // 4, 5):
            start = time.perf_counter()
            theirs(jacobian, gramian)
            other.append(time.perf_counter() - start)
    row: dict[str, Any] = {"mogrid_us": quantiles(own[2:])[0] * 1e6}
    if other:
        row["torchjd_us"] = quantiles(other[2:])[0] * 1e6
        row["times_faster"] = row["torchjd_us"] / row["mogrid_us"]
        row["target"] = TARGETS.get(method, {}).get(count)
    return row


def draw(record: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator

    blue, orange, grey = "#0072B2", "#D55E00", "#555555"
    plt.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(2, 4, figsize=(16, 8), layout="constrained")
    ks = list(COUNTS)
    timed_methods = [m for m in LABELS if m != "pareto_target"]
    for axis, method in zip(axes.flat, timed_methods, strict=False):
        rows = record["speed"][method]
        axis.set(xscale="log", yscale="log", ylabel="microseconds")
        axis.margins(y=0.25)
        own = [rows[str(k)]["mogrid_us"] for k in ks]
        axis.plot(ks, own, "-o", color=blue, lw=2)
        axis.annotate("mogrid", (ks[0], own[0]), xytext=(0, -18), textcoords="offset points", color=blue)
        if "torchjd_us" in rows[str(ks[0])]:
            other = [rows[str(k)]["torchjd_us"] for k in ks]
            axis.plot(ks, other, "--s", color=orange, lw=2)
            axis.annotate("TorchJD", (ks[0], other[0]), xytext=(0, 14), textcoords="offset points", color=orange)
        axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 3.0)))
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.set_title(f"{LABELS[method]}: time per call", pad=12)
    axis = axes.flat[6]
    markers = "osD^vPX"
    palette = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
    for (method, label), marker, colour in zip(LABELS.items(), markers, palette, strict=True):
        values = [max(record["exactness"][method][str(k)]["worst"], 1e-17) for k in ks]
        axis.plot(ks, values, marker=marker, lw=1.2, label=label, color=colour)
    axis.axhline(1e-9, color=grey, ls=":", lw=1.5)
    axis.annotate("promised: 1e-9", (ks[0], 1e-9), xytext=(0, 4), textcoords="offset points", color=grey)
    axis.set(
        title=f"Worst suboptimality, {record['gramians_per_k']} Gramians",
        xscale="log",
        yscale="log",
        ylabel="of trace(G)/K",
    )
    axis.set_ylim(1e-17, 1e-3)
    axis.legend(fontsize=8.5, ncols=2, loc="upper left", frameon=False)
    axis = axes.flat[7]
    rows = record["exactness"]["mgda_conflicts"]
    for offset, name, colour, hatch in ((-0.2, "mogrid", blue, ""), (0.2, "torchjd", orange, "//")):
        if name in rows[str(ks[0])]:
            shares = [100 * rows[str(k)][name]["conflicting"] / rows[str(k)][name]["of"] for k in ks]
            places = np.arange(len(ks)) + offset
            axis.bar(places, shares, 0.38, color=colour, hatch=hatch, edgecolor="white", label=name)
            for x, share in zip(places, shares, strict=True):
                axis.annotate(f"{share:.0f}", (x, share), ha="center", va="bottom", fontsize=10, color=colour)
    axis.set_xticks(range(len(ks)), [str(k) for k in ks])
    axis.set(title="MGDA: conflicting steps", ylabel="% of Gramians", xlabel="objectives K", ylim=(0, 100))
    axis.legend(["mogrid", "TorchJD"], frameon=False)
    for axis in axes.flat[:7]:
        axis.minorticks_off()
        axis.set_xticks(ks, [str(k) for k in ks])
        axis.set_xlabel("objectives K")
        axis.grid(alpha=0.25)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.solvers", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--gramians", type=int, default=1000, help="Gramians per K for exactness (default: 1000)")
    parser.add_argument("--rounds", type=int, default=200, help="calls per method and K for speed (default: 200)")
    parser.add_argument("--no-peers", action="store_true", help="measure mogrid alone")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder for the record")
    options = parser.parse_args(arguments)
    peers = not options.no_peers
    if peers:
        try:
            peer("upgrad", 2)
            peer("nash_mtl", 2)
        except ImportError as error:
            reason = str(error).splitlines()[0]
            print(f"benchmarks.solvers: pip install 'torchjd[full]' or give --no-peers ({reason})", file=sys.stderr)
            return 2
    torch.set_num_threads(1)
    packages = ["torch", "numpy", "scipy"] + (["torchjd"] if peers else [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cvxpy's, about TorchJD's programmes
        record: dict[str, Any] = {
            "gramians_per_k": options.gramians,
            "rounds": options.rounds,
            "threads": 1,
            "load_average": os.getloadavg()[0],
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "versions": {name: version(name) for name in packages},
            "speed": speed(options.rounds, peers),
            "exactness": exactness(options.gramians, peers),
        }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "solvers.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(record, options.output / "solvers.png")
    print(f"wrote {options.output / 'solvers.json'} and solvers.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""TorchJD's published properties and example values, checked on ours through a thin adapter; and ours against theirs.

The properties are those that its documentation states for aggregators A: ℝ^{m×n} → ℝⁿ. Runs where torchjd is installed;
the values in `EXAMPLES` are the outcomes of the examples in its documentation and need nothing installed.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mogrid.solvers import (
    COSMOS,
    IMTLG,
    IMTLL,
    MGDA,
    PBI,
    PCD,
    AlignedMTL,
    CAGrad,
    ConFIG,
    DualProj,
    FairGrad,
    FixedWeights,
    GeometricMean,
    GradVac,
    NashMTL,
    PCGrad,
    RandomWeights,
    Solver,
    StepStatistics,
    UPGrad,
)

DOCUMENTED = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])

# Documentation examples: method -> A(J) for J above.
EXAMPLES: list[tuple[Solver, list[float]]] = [
    (UPGrad(), [0.2929, 1.9004, 1.9004]),
    (DualProj(), [0.5563, 1.1109, 1.1109]),
    (MGDA(), [0.0, 1.0, 1.0]),
    (CAGrad(0.5), [0.1835, 1.2041, 1.2041]),
    (PCGrad(), [0.5848, 3.8012, 3.8012]),
    (IMTLG(), [0.0767, 1.0000, 1.0000]),
    (AlignedMTL([0.5, 0.5]), [0.2133, 0.9673, 0.9673]),
    (ConFIG(), [0.1588, 2.0706, 2.0706]),
    (FixedWeights(), [1.0, 1.0, 1.0]),
]


class Adapter:
    """An aggregator in TorchJD's sense: a Jacobian in, the combined gradient out."""

    def __init__(self, make: Callable[[], Solver]) -> None:
        self.make = make

    def __call__(self, jacobian: Tensor) -> Tensor:
        wide = jacobian.double()
        names = tuple(map(str, range(len(wide))))
        weights = self.make().weights(StepStatistics(names, torch.ones(len(wide)), wide @ wide.T))
        return (weights @ wide).to(jacobian.dtype)


@pytest.mark.parametrize(("solver", "expected"), EXAMPLES, ids=[s.name for s, _ in EXAMPLES])
def test_documented_examples(solver: Solver, expected: list[float]) -> None:
    """To three digits: TorchJD's regularisation of 1e-4 shows in the fourth."""
    assert_close(Adapter(lambda: solver)(DOCUMENTED), torch.tensor(expected), rtol=0, atol=2e-3)


METHODS: dict[str, Callable[[], Solver]] = {
    "upgrad": UPGrad,
    "dualproj": DualProj,
    "mgda": MGDA,
    "cagrad": lambda: CAGrad(0.5),
    "pcgrad": PCGrad,
    "imtl_g": IMTLG,
    "aligned_mtl": AlignedMTL,
    "config": ConFIG,
    "fairgrad": FairGrad,
    "nash_mtl": NashMTL,
    "gradvac": GradVac,
    "random": RandomWeights,
    "fixed": FixedWeights,
}
EQUIVARIANT = sorted(set(METHODS) - {"pcgrad", "gradvac", "random"})
SHAPES = [(1, 1), (1, 5), (2, 3), (3, 20), (5, 2), (9, 9), (20, 10)]


def matrices() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    made += [torch.zeros(3, 4, dtype=torch.float64), made[3][:1].repeat(4, 1), torch.cat([made[2], -made[2]])]
    return made


each_matrix = pytest.mark.parametrize("jacobian", matrices(), ids=lambda j: "x".join(map(str, j.shape)))


@each_matrix
@pytest.mark.parametrize("name", METHODS)
def test_expected_structure(name: str, jacobian: Tensor) -> None:
    combined = Adapter(METHODS[name])(jacobian)
    assert combined.shape == jacobian.shape[1:]
    assert torch.isfinite(combined).all()


@each_matrix
@pytest.mark.parametrize("name", ["upgrad", "dualproj", "mgda"])
def test_non_conflicting(name: str, jacobian: Tensor) -> None:
    """J·A(J) ≥ 0."""
    norms = jacobian.norm(dim=1).clamp(min=1e-30)
    combined = Adapter(METHODS[name])(jacobian)
    assert ((jacobian @ combined) / norms).min() >= -1e-7 * norms.max()


@each_matrix
@pytest.mark.parametrize("name", EQUIVARIANT)
def test_permutation_invariant(name: str, jacobian: Tensor) -> None:
    """A(PJ) = A(J)."""
    order = torch.randperm(len(jacobian), generator=torch.Generator().manual_seed(1))
    first, second = Adapter(METHODS[name])(jacobian), Adapter(METHODS[name])(jacobian[order])
    assert_close(first, second, rtol=1e-5, atol=1e-5 * float(jacobian.norm() + 1e-30))


@pytest.mark.parametrize("name", ["upgrad", "imtl_g", "config", "aligned_mtl", "fixed"])
def test_linear_under_scaling(name: str) -> None:
    """c ↦ A(diag(c)·J) is linear for positive c: only UPGrad, and the mean, of those above."""
    jacobian = matrices()[3]
    generator = torch.Generator().manual_seed(2)
    c1, c2 = torch.rand(2, len(jacobian), generator=generator, dtype=torch.float64)
    aggregate = Adapter(METHODS[name])
    combined = aggregate((2 * c1 + 3 * c2)[:, None] * jacobian)
    parts = 2 * aggregate(c1[:, None] * jacobian) + 3 * aggregate(c2[:, None] * jacobian)
    linear = bool(torch.allclose(combined, parts, rtol=1e-6, atol=1e-9))
    assert linear is (name in ("upgrad", "fixed", "config"))


@each_matrix
@pytest.mark.parametrize("name", ["upgrad", "dualproj"])
def test_strongly_stationary(name: str, jacobian: Tensor) -> None:
    """A(J) = 0 only where a positive combination of rows is: never where all gradients share a half space."""
    shifted = jacobian.abs() + 0.1
    assert Adapter(METHODS[name])(shifted).norm() > 0.05


@pytest.mark.parametrize("shape", [(2, 5), (3, 8), (5, 12), (8, 20)])
@pytest.mark.parametrize(
    "name", ["upgrad", "dualproj", "mgda", "cagrad", "fairgrad", "imtl_g", "aligned_mtl", "config"]
)
def test_agrees_with_torchjd(name: str, shape: tuple[int, int]) -> None:
    """Within the peer's own accuracy (absolute tolerances of 1e-4, 1e-3 for Frank-Wolfe)."""
    aggregation = pytest.importorskip("torchjd.aggregation")
    theirs = {
        "upgrad": aggregation.UPGrad,
        "dualproj": aggregation.DualProj,
        "mgda": lambda: aggregation.MGDA(epsilon=1e-9, max_iters=20_000),
        "cagrad": lambda: aggregation.CAGrad(c=0.5),
        "fairgrad": lambda: aggregation.FairGrad(alpha=1.0),
        "imtl_g": aggregation.IMTLG,
        "aligned_mtl": aggregation.AlignedMTL,
        "config": aggregation.ConFIG,
    }[name]
    try:
        peer = theirs()
    except ImportError as error:
        pytest.skip(str(error).splitlines()[0])
    jacobian = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)
    expected, actual = peer(jacobian), Adapter(METHODS[name])(jacobian)
    if name in ("fairgrad", "aligned_mtl"):  # in another unit of length
        expected, actual = expected / expected.norm(), actual / actual.norm()
    assert_close(actual, expected, rtol=5e-3, atol=5e-3 * float(expected.norm()))


@pytest.mark.parametrize("shape", [(2, 5), (3, 8), (5, 12), (8, 20), (6, 3)])
@pytest.mark.parametrize("tau", [0.0, 0.02, 0.6])
def test_pcd_agrees_with_torchjd_step_by_step(shape: tuple[int, int], tau: float) -> None:
    """Both keep a moving average of the squared norms; their constant under the root is 1e-8."""
    aggregation = pytest.importorskip("torchjd.aggregation")
    names = tuple(map(str, range(shape[0])))
    theirs, ours = aggregation.PCD(tau=tau, beta=0.9), PCD("0", tau, 0.9)
    generator = torch.Generator().manual_seed(sum(shape))
    for _ in range(4):
        jacobian = torch.randn(shape, generator=generator, dtype=torch.float64)
        weights = ours.weights(StepStatistics(names, gramian=jacobian @ jacobian.T))
        assert_close(weights @ jacobian, theirs(jacobian), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("losses", [[0.7, 2.0], [3.0, 0.1, 1.0], [1.0, 1.0, 1.0, 1.0, 5.0]])
@pytest.mark.parametrize("name", ["geometric_mean", "cosmos", "pbi", "imtl_l"])
def test_scalarisers_agree_with_torchjd(name: str, losses: list[float]) -> None:
    scalarization = pytest.importorskip("torchjd.scalarization")
    count = len(losses)
    share = torch.linspace(1, 2, count, dtype=torch.float64)
    share = share / share.sum()
    ideal = torch.full((count,), 0.05, dtype=torch.float64)
    theirs, ours = {
        "geometric_mean": lambda: (scalarization.GeometricMean(), GeometricMean()),
        "cosmos": lambda: (scalarization.COSMOS(0.8, share), COSMOS(share.tolist(), 0.8)),
        "pbi": lambda: (scalarization.PBI(3.0, share, ideal), PBI(share.tolist(), 3.0, ideal.tolist())),
        "imtl_l": lambda: (scalarization.IMTLL(count).double(), IMTLL(rate=0.05)),
    }[name]()
    learned = list(theirs.parameters())
    optimiser = torch.optim.Adam(learned, lr=0.05, eps=1e-30) if learned else None
    for _ in range(3):  # what it learns, it learns alike
        values = torch.tensor(losses, dtype=torch.float64, requires_grad=True)
        theirs(values).backward()
        weights = ours.weights(StepStatistics(tuple(map(str, range(count))), values.detach()))
        assert_close(weights, values.grad, rtol=1e-9, atol=1e-9)
        if optimiser is not None:
            optimiser.step()
            optimiser.zero_grad()

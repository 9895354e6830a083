"""A plain PyTorch loop with three losses: `backward` stands where ``loss.backward()`` stood.

    python examples/plain_loop.py

Two domains ask for the same documents in different ways, and an adversary moves the queries, so the three gradients
disagree. ParetoTarget with preferences 4 : 4 : 1 steers to where 4, 4 and 1 times the losses are equal.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from mogrid import ParetoTarget, backward

torch.manual_seed(0)
queries = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 16))
documents = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 16))
parameters = [*queries.parameters(), *documents.parameters()]

# How a domain turns a document into a query: half of it is shared, half is its own.
shared = torch.randn(32, 32)
ways = {name: (shared + torch.randn(32, 32)) / 8 for name in ("source", "other")}


def batch(domain: str) -> tuple[Tensor, Tensor]:
    """Return (queries, documents) of 64 pairs."""
    document = torch.randn(64, 32)
    return document @ ways[domain] + 0.2 * torch.randn(64, 32), document


def contrastive(query: Tensor, document: Tensor) -> Tensor:
    """Return the in-batch InfoNCE loss."""
    scores = normalize(queries(query)) @ normalize(documents(document)).T
    return cross_entropy(scores / 0.1, torch.arange(len(query)))


def moved(query: Tensor, document: Tensor) -> Tensor:
    """Return the queries after one step of length 1 that hurts them most."""
    query = query.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(contrastive(query, document), query)
    return (query + normalize(gradient)).detach()


def losses(source: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Return one loss per objective."""
    return {
        "effectiveness": contrastive(*source),
        "ood": contrastive(*other),
        "adversarial": contrastive(moved(*source), source[1]),
    }


held_out = batch("source"), batch("other")
before = losses(*held_out)
preference = {"effectiveness": 4, "ood": 4, "adversarial": 1}
solver = ParetoTarget(preference)
optimiser = torch.optim.AdamW(parameters, lr=3e-3)
for step in range(301):
    report = backward(losses(batch("source"), batch("other")), parameters, solver)
    optimiser.step()
    if step % 100 == 0:
        weights = "  ".join(f"{name} {weight:.2f}" for name, weight in report.weights.items())
        cosine = report.cosines["effectiveness", "ood"]
        print(f"step {step:3d}  weights  {weights}  cosine of effectiveness and ood {cosine:+.2f}")

print(f"\n{'held-out loss':14} before  after  x preference")
for name, loss in losses(*held_out).items():
    print(f"{name:14} {before[name]:6.3f} {loss:6.3f} {preference[name] * loss:13.3f}")

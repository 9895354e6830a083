"""List the weighting strategies: name, what it needs, what it is, its paper.

With a NAME, show that one's documentation: settings, what it promises, and where it comes from.

example: mogrid solvers mgda
"""

from __future__ import annotations

import argparse
import inspect
import json
from typing import TYPE_CHECKING, Any

from mogrid.construct import named

if TYPE_CHECKING:
    from mogrid.solvers import Solver

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="show this solver's documentation")
    parser.add_argument("--json", action="store_true", help="print JSON, with every setting and its default")


def run(arguments: argparse.Namespace) -> int:
    from mogrid.solvers import available

    solvers = available()
    if arguments.name is not None:
        name, _ = named(solvers, arguments.name, what="solver")
        solvers = {name: solvers[name]}
    if arguments.json:
        print(json.dumps([_record(solver) for solver in solvers.values()], indent=1))
    elif arguments.name is not None:
        (solver,) = solvers.values()
        print(f"{solver.name}: mogrid.solvers.{solver.__name__}{_signature(solver)}\n\n{inspect.getdoc(solver)}")
    else:
        width = max(map(len, solvers))
        for solver in solvers.values():
            print(f"{solver.name:{width}}  {_needs(solver):8}  {solver.summary}  [{solver.paper}]")
    return 0


def _needs(solver: type[Solver]) -> str:
    """What the weights follow from; solvers around another need what that one needs."""
    needs = inspect.getattr_static(solver, "needs")
    return needs if isinstance(needs, str) else "inner's"


def _signature(solver: type[Solver]) -> str:
    """The constructor's keywords, without annotations."""
    parameters = inspect.signature(solver).parameters.values()
    return f"({', '.join(str(p.replace(annotation=p.empty)) for p in parameters)})"


def _record(solver: type[Solver]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, parameter in inspect.signature(solver).parameters.items():
        required = parameter.default is parameter.empty
        settings[name] = {"required": True} if required else {"required": False, "default": parameter.default}
    return {
        "name": solver.name,
        "class": solver.__name__,
        "needs": _needs(solver),
        "summary": solver.summary,
        "paper": solver.paper,
        "settings": settings,
    }

"""From a model to what a recipe says of it: its objectives on select-role data, and the results of its table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mogrid.attacks.registry import attack_for, attack_name
from mogrid.data import Domain, Role
from mogrid.errors import ConfigError, MogridError, RoleError
from mogrid.evaluation.judge import JudgedSplit, Says, judge, rehearse
from mogrid.evaluation.results import SplitResult
from mogrid.evaluation.sample import sample_domain
from mogrid.retrieval.tokens import remembering
from mogrid.runs import Result
from mogrid.training.library import Library
from mogrid.training.recipe import Recipe
from mogrid.training.settings import EvaluationSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from mogrid.attacks.base import Attack

__all__ = ["Judging", "judging_of", "objective_values"]

CLEAN = "clean"


@dataclass
class Judging:
    """What is judged of every run of a recipe.

    Attributes
    ----------
    places : dict of (domain name, role) to dict of condition to attack
        ``clean`` is always judged.
    domains : dict of domain name to Domain
        Sampled as the recipe says; `originals` are not.
    home : str
        The collection's source: what tables tell from other domains.
    objectives : dict of objective to list of (domain name, condition)
        All of role select; none where nothing says how an objective is judged and its sets have no select split.
    settings : EvaluationSettings
    named : dict of domain name to str
        What the recipe calls the place.
    """

    settings: EvaluationSettings
    domains: dict[str, Domain] = field(default_factory=dict)
    places: dict[tuple[str, Role], dict[str, Attack]] = field(default_factory=dict)
    objectives: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    originals: list[Domain] = field(default_factory=list)
    home: str = ""
    named: dict[str, str] = field(default_factory=dict)
    _rehearsed: bool = field(default=False, init=False, repr=False, compare=False)

    def add(self, domain: Domain, role: Role, where: str, conditions: Mapping[str, Attack] | None = None) -> None:
        """Judge one more split, or one that is judged already under more conditions.

        Raises
        ------
        ConfigError
            Another domain, or another split of it, goes by the same name: results could not be told apart. `where` is
            what the recipe calls it.
        """
        settings = self.settings
        if domain.name not in self.domains:
            self.domains[domain.name] = sample_domain(domain, settings.max_queries, settings.max_documents)
            self.originals.append(domain)
            self.named[domain.name] = where
        elif domain.fingerprint not in (known.fingerprint for known in self.originals):
            raise ConfigError(
                f"{self.named[domain.name]!r} and {where!r} are judged, and both would be called {domain.name!r} in "
                "results: leave one out, or give a set's folder another name"
            )
        own = self.places.setdefault((domain.name, role), {})
        for name, attack in (conditions or {}).items():
            if vars(own.setdefault(name, attack)) != vars(attack):
                raise ConfigError(f"{domain.name!r} is judged under two perturbations that are both called {name!r}")

    def check(self) -> None:
        """Raise `ConfigError` where an objective is not judged at all: nothing could be chosen by it."""
        for name, places in self.objectives.items():
            if not places:
                raise ConfigError(
                    f"objective {name!r}: nothing says how it is judged, and its sets have no select split: give it "
                    "`judged: DOMAIN/SPLIT`"
                )

    def rehearse(self, *, bm25: bool = False) -> None:
        """Raise, once and before anything is trained, what the perturbations of `judge` would raise behind it.

        Parameters
        ----------
        bm25 : bool
            Whether BM25 is to be judged, too: no perturbation may look into it.
        """
        for (name, _), attacks in self.places.items():
            blind = next((condition for condition, attack in attacks.items() if attack.white_box), None)
            if bm25 and blind is not None:
                raise ConfigError(
                    f"{name!r} is judged under {blind!r}, which looks into a model, and BM25, which is judged beside "
                    "it, is none: choose another perturbation, or leave `evaluation` out"
                )
        if not self._rehearsed:
            rehearse(self._splits())
            self._rehearsed = True

    def standing(self) -> Judging:
        """Return the judging of the objectives alone, on select-role data."""
        wanted = {place for places in self.objectives.values() for place in places}
        places: dict[tuple[str, Role], dict[str, Attack]] = {
            (name, role): {c: attack for c, attack in attacks.items() if (name, c) in wanted}
            for (name, role), attacks in self.places.items()
            if role is Role.SELECT and any(name == domain for domain, _ in wanted)
        }
        return replace(self, places=places, settings=self.settings.model_copy(update={"redraws": 1}))

    def judge(
        self, model: SentenceTransformer | Literal["bm25"], progress: Says = lambda what, share: None
    ) -> tuple[list[Result], float]:
        """Return the results of a model, and the temperature that its select splits calibrate.

        Negatives and perturbations are drawn with one seed for all runs, so that runs are compared on the same draws.
        """
        if not self.places:
            return [], 1.0
        found = judge(
            model,
            self._splits(),
            negatives=self.settings.negatives,
            redraws=self.settings.redraws,
            preprocess=None if isinstance(model, str) else remembering(model),
            progress=progress,
        )
        return [self._result(result) for result in found], found[0].temperature

    def _splits(self) -> list[JudgedSplit]:
        return [JudgedSplit(self.domains[name], role, attacks) for (name, role), attacks in self.places.items()]

    def _result(self, found: SplitResult) -> Result:
        notes: dict[str, Any] = {"tie_fraction": round(found.tie_fraction, 6), "collapsed": found.collapsed}
        if found.dimensions is not None:
            notes["dimensions"] = round(found.dimensions, 4)
        if found.changed is not None:
            notes["changed"] = round(found.changed, 4)
        if found.ceiling < 1:
            notes["ceiling"] = round(found.ceiling, 5)
        if found.self_hits:
            notes["self_hits"] = found.self_hits
        if found.domain == self.home:
            notes["home"] = True
        queries = {"ndcg": found.ndcg, **({"ce": found.ce} if found.ce is not None else {})}
        return Result(found.domain, found.role, found.condition, found.means, queries, notes)


def judging_of(recipe: Recipe, library: Library) -> Judging:
    """Return what a recipe's runs are judged on.

    Raises
    ------
    RoleError
        An objective is judged on data of role train or test.
    ConfigError, DataError
        A domain or split is missing; the message names it.
    """
    collection = library.collection
    found = Judging(
        recipe.evaluation or EvaluationSettings(perturb=[]),
        home=collection.source.name if collection is not None else "",
    )
    for name in recipe.objectives:
        try:
            found.objectives[name] = _stands_for(name, recipe, library, found)
        except MogridError as error:
            raise type(error)(f"objective {name!r}: {error}") from error
    if recipe.evaluation is None:
        return found
    if collection is None:
        raise ConfigError("evaluation: no file says what the data sets are for; name one as `domains`, or leave it out")
    role = Role(recipe.evaluation.role)
    attacks = {name: attack_for(name, role) for name in recipe.evaluation.perturb}
    measured = collection.with_role(role)
    if not measured:
        raise ConfigError(f"evaluation: no data set has the role {role}")
    for domain in measured:
        # Perturbations are judged in domain, or everywhere where nothing is in domain.
        found.add(
            domain, role, domain.name, attacks if domain is collection.source or not collection.source.splits else {}
        )
    return found


def _stands_for(name: str, recipe: Recipe, library: Library, judging: Judging) -> list[tuple[str, str]]:
    objective = recipe.objectives[name]
    judged = objective.judged
    condition, attacks = CLEAN, {}
    perturb = judged.perturb if judged is not None else objective.perturb
    if perturb is not None:
        # What is trained against is known by its name alone: its settings are those of role train.
        condition = attack_name(perturb)
        attacks = {condition: attack_for(perturb if judged is not None else condition, Role.SELECT)}
    if judged is not None:
        domains = [(place, library.judged(place)) for place in judged.on]
    else:
        domains = _usual(recipe, name, library)
    for place, domain in domains:
        if Role.SELECT not in domain.splits:
            raise RoleError(f"{domain.name!r} has no split of role select to be judged on")
        judging.add(domain, Role.SELECT, place, attacks)
    return [(domain.name, condition) for _, domain in domains]


def _usual(recipe: Recipe, name: str, library: Library) -> list[tuple[str, Domain]]:
    """Return where an objective is judged when it does not say: where its loss is meant to help."""
    objective = recipe.objectives[name]
    if objective.over == "domains" and library.collection is not None:
        others = list(library.collection.ood_with(Role.SELECT))
        if others:
            return [(domain.name, domain) for domain in others]
    own = [(entry.path, domain) for entry in objective.datasets if (domain := library.select_splits(entry)) is not None]
    return list({domain.fingerprint: (path, domain) for path, domain in own}.values())


def objective_values(recipe: Recipe, judging: Judging, results: Iterable[Result]) -> dict[str, dict[str, float]]:
    """Return by objective and metric the value that stands for it; without embeddings there is no ``ce``."""
    by_place = {result.place: result for result in results}
    values: dict[str, dict[str, float]] = {}
    for name, places in judging.objectives.items():
        judged = recipe.objectives[name].judged
        worst = judged is not None and judged.over == "worst"
        if not places:
            continue
        own = [by_place[f"{domain}/{Role.SELECT}/{condition}"].means for domain, condition in places]
        values[name] = {}
        for metric, reduce in (("ce", np.max if worst else np.mean), ("ndcg", np.min if worst else np.mean)):
            if all(metric in means for means in own):
                values[name][metric] = float(reduce([means[metric] for means in own]))
    return values

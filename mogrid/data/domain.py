"""The one in-memory form of retrieval data: domains with splits, each with a role, and collections of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from mogrid.errors import DataError, RoleError

__all__ = ["NO_SOURCE", "Collection", "Domain", "Role", "Split"]


class Role(StrEnum):
    """What a split of a domain, or an attack, may be used for: one thing only."""

    TRAIN = "train"
    SELECT = "select"
    TEST = "test"


@dataclass(frozen=True)
class Split:
    """Queries of one role over a domain's corpus.

    Attributes
    ----------
    role : Role
    queries : mapping of query id to text
    qrels : mapping of query id to mapping of document id to relevance
        Above 0 is relevant.
    documents : mapping of document id to text
        Given to training in place of the corpus' own text: where the query was cut out of the document, the rest.
    variants : mapping of str to mapping of query id to text
        By name, the same queries written otherwise by people or tools, such as with their typing errors.
    name : str
        What the files call it, where they have a name for it: ``dev``, say.
    """

    role: Role
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    documents: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    name: str = field(default="", compare=False)


@dataclass(frozen=True)
class Domain:
    """A corpus and its splits.

    Attributes
    ----------
    name : str
    corpus : mapping of document id to text
        Title and text in one string.
    splits : mapping of Role to Split
    dropped : mapping of str to int
        What reading left out → how often: repetitions that agree, judgements of documents that are not there.
    place : Path or None
        The folder or file that it was read from, links resolved; of ir_datasets, the id. None where it was made.

    Raises
    ------
    RoleError
        A query - one id with one text - stands in two splits: what is learned from one would be measured in the other.
    DataError
        A judgement names an unknown document or query.
    """

    name: str
    corpus: Mapping[str, str]
    splits: Mapping[Role, Split]
    dropped: Mapping[str, int] = field(default_factory=dict)
    place: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        seen: dict[str, Role] = {}
        for role, split in self.splits.items():
            for query, judged in split.qrels.items():
                if query not in split.queries:
                    raise DataError(f"domain {self.name!r}: {role} judgements of unknown query {query!r}")
                unknown = next((document for document in judged if document not in self.corpus), None)
                if unknown is not None:
                    raise DataError(f"domain {self.name!r}: query {query!r} is judged on unknown document {unknown!r}")
            for query, text in split.queries.items():
                other = seen.setdefault(query, role)
                if other is not role and self.splits[other].queries[query] == text:
                    raise RoleError(
                        f"domain {self.name!r}: query {query!r} is in both {other} and {role} splits: {text[:80]!r}; "
                        "drop_overlap: true keeps it where it is judged last"
                    )

    def without(self, role: Role, queries: Iterable[str]) -> Domain:
        """Return the domain without some queries of a split; they count as dropped."""
        split, left_out = self.split(role), set(queries)
        kept = replace(
            split,
            queries={query: text for query, text in split.queries.items() if query not in left_out},
            qrels={query: judged for query, judged in split.qrels.items() if query not in left_out},
        )
        dropped = {**self.dropped, f"queries of {role} that something is selected or tested by": len(left_out)}
        return replace(self, splits={**self.splits, role: kept}, dropped=dropped)

    def split(self, role: Role) -> Split:
        """Return the split of a role, or raise `RoleError` naming those there are."""
        if role not in self.splits:
            there = ", ".join(sorted(self.splits)) or "none"
            raise RoleError(f"domain {self.name!r} has no {role} split (it has: {there})")
        return self.splits[role]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over name, corpus and, by role, queries, judgements and training texts: what was read, no more.

        The order of lines, compression, the kind of file, splits that were not asked for and queries without a
        judgement do not count.
        """
        digest = hashlib.sha256()
        splits = {
            str(role): {
                "queries": dict(split.queries),
                "qrels": {q: dict(d) for q, d in split.qrels.items()},
                "documents": dict(split.documents),
                **(
                    {"variants": {name: dict(texts) for name, texts in split.variants.items()}}
                    if split.variants
                    else {}
                ),
            }
            for role, split in self.splits.items()
        }
        for value in (self.name, dict(self.corpus), splits):
            digest.update(json.dumps(value, sort_keys=True, ensure_ascii=True).encode())
        return digest.hexdigest()


NO_SOURCE = Domain("(no source)", {}, {})


@dataclass(frozen=True)
class Collection:
    """What an experiment runs on: an in-domain source, and other domains with one role each.

    Attributes
    ----------
    source : Domain
        With a split for each role that it is used in; `NO_SOURCE`, without any, where there are other domains alone.
    ood : tuple of Domain
        Each for training, for selecting or for testing, never for two of them.

    Raises
    ------
    RoleError
        There is no split at all, or a domain appears with two roles.
    """

    source: Domain
    ood: tuple[Domain, ...] = ()

    def __post_init__(self) -> None:
        if not self.source.splits and not self.ood:
            raise RoleError("a collection needs a domain with a split")
        roles: dict[str, str] = {self.source.name: "source"}
        for domain in self.ood:
            if len(domain.splits) != 1:
                raise RoleError(f"OOD domain {domain.name!r} has {len(domain.splits)} roles; each has exactly one")
            role = next(iter(domain.splits))
            if domain.name in roles:
                raise RoleError(f"domain {domain.name!r} is named as {roles[domain.name]} and as {role}; one role each")
            roles[domain.name] = str(role)

    def ood_with(self, role: Role) -> tuple[Domain, ...]:
        """Return the OOD domains of a role."""
        return tuple(domain for domain in self.ood if role in domain.splits)

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The source, where there is one, and the others."""
        return (self.source, *self.ood) if self.source.splits else self.ood

    def with_role(self, role: Role) -> tuple[Domain, ...]:
        """Return the domains that have a split of a role, the source first."""
        return tuple(domain for domain in self.domains if role in domain.splits)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all domains and their roles; a source of one role could be any domain, and is told from them."""
        parts = [domain.fingerprint for domain in self.domains]
        if len(self.source.splits) == 1:
            parts.append("source")
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    def summary(self) -> list[tuple[str, str, int, int, int]]:
        """Return (domain, role, documents, queries, judgements) of every split, for a table."""
        rows = []
        for domain in self.domains:
            for role, split in domain.splits.items():
                label = f"source, {role}" if domain is self.source else f"OOD, {role}"
                judgements = sum(len(judged) for judged in split.qrels.values())
                rows.append((domain.name, label, len(domain.corpus), len(split.queries), judgements))
        return rows

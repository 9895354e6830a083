"""Near-duplicates between text that is trained on and text that is measured on, found and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from zlib import crc32

from mogrid.data.domain import Collection, Domain, Role
from mogrid.data.words import units
from mogrid.errors import ConfigError

__all__ = ["LeakReport", "NearDuplicate", "leak_report", "near_duplicates"]

_HASHES = 128
_MISSED = 1e-3
_AT_ONCE = 4096


@dataclass(frozen=True)
class NearDuplicate:
    """A measured text and the trained text that it is most like.

    Attributes
    ----------
    measured, trained : int
        Places in the lists.
    similarity : float
        Exact Jaccard similarity of their shingles.
    """

    measured: int
    trained: int
    similarity: float


@dataclass(frozen=True)
class LeakReport:
    """What of a collection's select and test text is nearly training text.

    Attributes
    ----------
    threshold : float
    counts : dict
        ``"DOMAIN, ROLE, queries"`` or ``", documents"`` → (near-duplicates, texts).
    examples : dict
        Likewise → up to three (measured text, trained text, similarity).
    """

    threshold: float
    counts: dict[str, tuple[int, int]]
    examples: dict[str, list[tuple[str, str, float]]]

    @property
    def leaks(self) -> int:
        """Number of measured texts that are near-duplicates of training text."""
        return sum(found for found, _ in self.counts.values())

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def near_duplicates(
    trained: Sequence[str], measured: Sequence[str], *, threshold: float = 0.8, words: int = 3, seed: int = 1
) -> list[NearDuplicate]:
    """Return, for every measured text that has one, the trained text it is most like.

    Candidates come from MinHash and locality-sensitive hashing (Broder, 1997; by datasketch), and are checked by the
    exact Jaccard similarity of their sets of shingles: none reported is below the threshold. A pair at the
    threshold is missed with a probability of 0.001 at most, one above it with less, and equal texts never. Below a
    threshold of 0.35 that takes comparing nearly all pairs.

    Parameters
    ----------
    trained, measured : sequence of str
        Texts of training, and those that must not be among them.
    threshold : float
        In (0, 1].
    words : int
        Length of a shingle, in words, or in letters of scripts without spaces; shorter texts are one shingle. Case,
        spacing and punctuation do not count. Texts without a word are like none.
    seed : int
        Of the hashes.

    Raises
    ------
    ConfigError
        A setting is out of range.
    """
    return _Known(trained, threshold, words, seed).near(measured)


class _Known:
    """Training text, sketched and indexed once."""

    def __init__(self, trained: Sequence[str], threshold: float, words: int = 3, seed: int = 1) -> None:
        if not 0 < threshold <= 1 or words < 1:
            raise ConfigError(f"need a threshold in (0, 1] and words >= 1, got {threshold} and {words}")
        from datasketch import MinHashLSH

        self.texts, self.threshold, self.words, self.seed = trained, threshold, words, seed
        self.sets = [_shingles(text, words) for text in trained]
        self.index = MinHashLSH(num_perm=_HASHES, params=_bands(threshold))
        # Equal sets of shingles are one entry: real corpora repeat themselves.
        self.first: dict[frozenset[str], int] = {}
        for place, shingles in enumerate(self.sets):
            if shingles:
                self.first.setdefault(shingles, place)
        for shingles, sketch in _sketches(list(self.first), seed):
            self.index.insert(self.first[shingles], sketch)

    def near(self, measured: Sequence[str]) -> list[NearDuplicate]:
        """Return each text's nearest, of those near enough."""
        wanted: dict[frozenset[str], list[int]] = {}
        for place, text in enumerate(measured):
            if shingles := _shingles(text, self.words):
                wanted.setdefault(shingles, []).append(place)
        equal = [shingles for shingles in wanted if shingles in self.first]
        found = [NearDuplicate(place, self.first[s], 1.0) for s in equal for place in wanted[s]]
        for shingles, sketch in _sketches([s for s in wanted if s not in self.first], self.seed):
            size = len(shingles)
            # Sets that are as alike are about as large: most candidates need not be intersected.
            able = [
                other
                for other in self.index.query(sketch)
                if min(size, len(self.sets[other])) >= self.threshold * max(size, len(self.sets[other])) - 1e-9
            ]
            scored = [(_jaccard(shingles, self.sets[other]), -other) for other in able]
            if scored and max(scored)[0] >= self.threshold:
                similarity, other = max(scored)
                found += [NearDuplicate(place, -other, similarity) for place in wanted[shingles]]
        return sorted(found, key=lambda pair: pair.measured)


def _jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)


def leak_report(collection: Collection, *, threshold: float = 0.8) -> LeakReport:
    """Hold all select- and test-role queries and relevant documents against all training text.

    Queries are held against training queries, documents against training documents: those of relevant pairs, since
    what nobody is trained to find does not leak. The source's splits share their corpus by design; its documents are
    those that select or test queries are to find.

    Parameters
    ----------
    collection : Collection
    threshold : float
        See `near_duplicates`.
    """
    trained = collection.with_role(Role.TRAIN)
    queries = _Known([text for domain in trained for text in _queries(domain, Role.TRAIN)], threshold)
    documents = _Known([text for domain in trained for text in _documents(domain, Role.TRAIN)], threshold)
    counts: dict[str, tuple[int, int]] = {}
    examples: dict[str, list[tuple[str, str, float]]] = {}
    for role in (Role.SELECT, Role.TEST):
        for domain in collection.with_role(role):
            for what, known, asked in (
                ("queries", queries, _queries(domain, role)),
                ("documents", documents, _documents(domain, role)),
            ):
                pairs = known.near(asked)
                key = f"{domain.name}, {role}, {what}"
                counts[key] = len(pairs), len(asked)
                if pairs:
                    examples[key] = [(asked[p.measured], known.texts[p.trained], p.similarity) for p in pairs[:3]]
    return LeakReport(threshold, counts, examples)


def _queries(domain: Domain, role: Role) -> list[str]:
    split = domain.split(role)
    return [split.queries[query] for query in split.qrels]


def _documents(domain: Domain, role: Role) -> list[str]:
    split = domain.split(role)
    relevant = dict.fromkeys(d for judged in split.qrels.values() for d, r in judged.items() if r > 0)
    return [domain.corpus[document] for document in relevant]


def _shingles(text: str, words: int) -> frozenset[str]:
    found = units(text)
    if not found:
        return frozenset()
    return frozenset(" ".join(found[i : i + words]) for i in range(max(len(found) - words + 1, 1)))


def _bands(threshold: float) -> tuple[int, int]:
    """Return bands and rows: the longest bands, thus the fewest candidates, that miss at most `_MISSED` of pairs."""
    return next(
        (_HASHES // rows, rows)
        for rows in range(_HASHES // 2, 0, -1)
        if rows == 1 or (1 - threshold**rows) ** (_HASHES // rows) <= _MISSED
    )


def _sketches(sets: Sequence[frozenset[str]], seed: int) -> Any:
    """Yield each set with its MinHash."""
    from datasketch import MinHash

    for start in range(0, len(sets), _AT_ONCE):
        some = sets[start : start + _AT_ONCE]
        encoded = [[shingle.encode() for shingle in sorted(shingles)] for shingles in some]
        # The permutations do the mixing: of a shingle's own hash it takes no more than that few have the same.
        yield from zip(some, MinHash.bulk(encoded, num_perm=_HASHES, seed=seed, hashfunc=crc32), strict=True)

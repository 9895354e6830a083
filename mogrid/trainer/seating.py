"""Seating rows that exclude each other: every row in a batch, no two that exclude each other in the same.

A colouring of the conflict graph with colours of equal size: greedy, hardest first, with one exchange where it sticks.
Rows with few conflicts are dealt out at random, and those few that met one are moved.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import chain, cycle

import numpy as np

from mogrid.errors import DataError
from mogrid.trainer.conflicts import Conflicts, Ints

__all__ = ["Part"]

_MORE = 1.1  # at most so many times the batches that the rows alone would fill
_FEW = 0.01  # conflicts of a row, as a share of the batches
_SURE = 4  # batches of rows with few conflicts: enough to tell without trying that all of them have a seat
_LEFT_OUT = 0.01  # of the rows, before it is worth a warning
_TRIES = 2000  # rows looked at for each that a batch still lacks


class Part:
    """Rows that are dealt out to batches of one size, or to as many places in each.

    Attributes
    ----------
    batches : int
        How many it takes to hold every row once.
    """

    def __init__(self, conflicts: Conflicts, rows: Ints, size: int, name: str) -> None:
        self.rows = rows
        self.size = size
        self.name = name
        self.batches = max(math.ceil(len(rows) / size), 1)
        self.classes: list[int] = conflicts.classes[rows].tolist()
        self.against = [conflicts.against[row] for row in rows.tolist()]
        own = np.isin(conflicts.rows, rows)
        self.entries = np.searchsorted(rows, conflicts.rows[own]), conflicts.opposed[own]
        degrees = conflicts.degrees[rows]
        # Few conflicts among many batches are cheaper to mend than to avoid.
        self.light = np.flatnonzero(degrees <= self.batches * _FEW)
        self.heavy = np.flatnonzero(degrees > self.batches * _FEW)
        self.degree_of_class = np.zeros(max(self.classes, default=0) + 1, dtype=np.int64)
        np.maximum.at(self.degree_of_class, conflicts.classes[rows], degrees)

    def exclude(self, a: int, b: int) -> bool:
        """Say whether two rows must not share a batch."""
        return self.classes[a] in self.against[b] or self.classes[b] in self.against[a]

    def settle(self, rng: np.random.Generator) -> None:
        """Find out how many batches it takes; raise `DataError` where none can be filled, warn where rows are lost."""
        if len(self.heavy) == 0 and _SURE * self.size <= len(self.rows):
            return
        if len(self.rows) < self.size:
            raise DataError(
                f"{self.name}: a batch of {self.size} needs as many rows, none of them twice, and it has "
                f"{len(self.rows)}: bring more, or use a smaller batch"
            )
        dealt = self.deal(rng, most=math.floor(_MORE * len(self.rows) / self.size))
        if len(dealt) == 0:
            raise DataError(
                f"{self.name}: no {self.size} of its {len(self.rows)} rows can share a batch: a document of one is "
                "relevant to the query of another; use a smaller batch"
            )
        self.batches = len(dealt)
        lost = len(self.rows) - len(np.unique(dealt))
        if lost > _LEFT_OUT * len(self.rows):
            warnings.warn(
                f"{self.name}: {lost} of its {len(self.rows)} rows are left out of an epoch: they exclude so many "
                f"others that {self.batches} batches of {self.size} cannot hold them; use a smaller batch",
                stacklevel=2,
            )

    def without_end(self, rng: np.random.Generator) -> Iterator[list[int]]:
        while True:
            yield from self.deal(rng).tolist()

    def deal(self, rng: np.random.Generator, most: int = 0) -> Ints:
        """Return full batches of rows of the dataset, shape (batches, size), in random order.

        Parameters
        ----------
        rng : numpy.random.Generator
            Decides the order in which rows are seated.
        most : int
            Batches there may be in the end, where more are needed.
        """
        table = Table(self, self.batches)
        left = table.make_room(table.seat_heavy(rng), rng)
        while left and len(table.batches) < most:
            left = table.seat_in_new(left)
        table.seat_light(rng)
        table.fill(rng)
        full = np.array([own for own in table.batches if len(own) == self.size], dtype=np.int64)
        return self.rows[rng.permutation(full.reshape(-1, self.size))]


class Table:
    """Batches in the making, and which classes may not join them.

    Attributes
    ----------
    batches : list of list of int
        Rows, by their position in the part.
    """

    def __init__(self, part: Part, count: int) -> None:
        self.part = part
        self.batches: list[list[int]] = [[] for _ in range(count)]
        # By batch, where it has been asked for: classes of its rows, and classes that its rows are against.
        self._present: list[Counter[int] | None] = [Counter() for _ in range(count)]
        self._closed: list[Counter[int] | None] = [Counter() for _ in range(count)]

    def _count(self, batch: int) -> tuple[Counter[int], Counter[int]]:
        present, closed = self._present[batch], self._closed[batch]
        if present is None or closed is None:
            own, part = self.batches[batch], self.part
            present = self._present[batch] = Counter(part.classes[row] for row in own)
            closed = self._closed[batch] = Counter(chain.from_iterable(part.against[row] for row in own))
        return present, closed

    def fits(self, row: int, batch: int) -> bool:
        """Say whether a row excludes none of a batch, and none of it the row."""
        present, closed = self._count(batch)
        if closed[self.part.classes[row]]:
            return False
        return not any(present[c] for c in self.part.against[row])

    def seat(self, row: int, batch: int) -> None:
        present, closed = self._count(batch)
        self.batches[batch].append(row)
        present[self.part.classes[row]] += 1
        for c in self.part.against[row]:
            closed[c] += 1

    def unseat(self, row: int, batch: int) -> None:
        present, closed = self._count(batch)
        self.batches[batch].remove(row)
        present[self.part.classes[row]] -= 1
        for c in self.part.against[row]:
            closed[c] -= 1

    # -- rows with many conflicts ----------------------------------------------------------------------------------

    def seat_heavy(self, rng: np.random.Generator) -> list[int]:
        """Seat rows with many conflicts, each in one of the emptiest batches it fits; return those that fit none.

        Class after class: its rows then spread over the batches as evenly as can be. The hardest go first, but not
        always: where some must be left out, they are not to be the same in every epoch.
        """
        part, size = self.part, self.part.size
        heavy = rng.permutation(part.heavy)
        classes = np.array(part.classes, dtype=np.int64)[heavy]
        urgency = part.degree_of_class * rng.uniform(0.2, 1.0, len(part.degree_of_class))
        heavy = heavy[np.argsort(-urgency[classes], kind="stable")]
        levels: list[list[int]] = [[] for _ in range(size)]  # open batches by the rows they have
        levels[0] = list(range(len(self.batches)))
        lowest, left = 0, []
        for row, draw in zip(heavy.tolist(), rng.random(len(heavy)).tolist(), strict=True):
            while lowest < size and not levels[lowest]:
                lowest += 1
            for level in range(lowest, size):
                place = self._place(row, levels[level], draw)
                if place is not None:
                    break
            else:
                left.append(row)
                continue
            batch = levels[level][place]
            levels[level][place] = levels[level][-1]
            levels[level].pop()
            if level + 1 < size:
                levels[level + 1].append(batch)
            self.seat(row, batch)
        return left

    def _place(self, row: int, batches: list[int], draw: float) -> int | None:
        """Return where in a list of batches one stands that the row fits, looking from a random place on."""
        count = len(batches)
        start = int(draw * count)
        return next((p for p in chain(range(start, count), range(start)) if self.fits(row, batches[p])), None)

    def make_room(self, rows: list[int], rng: np.random.Generator) -> list[int]:
        """Seat rows by moving one other each to a batch with room; return those for which no move would do."""
        left, part = [], self.part
        hopeless: set[tuple[int, tuple[int, ...]]] = set()  # where one row found no way, its like will not either
        for row in rows:
            kind = part.classes[row], part.against[row]
            if kind in hopeless or not self._swap_in(row, rng):
                hopeless.add(kind)
                left.append(row)
        return left

    def _swap_in(self, row: int, rng: np.random.Generator) -> bool:
        part = self.part
        room = [batch for batch, own in enumerate(self.batches) if len(own) < part.size]
        for batch in rng.permutation(len(self.batches))[:_TRIES].tolist():
            own = self.batches[batch]
            excluded = [x for x in own if part.exclude(row, x)]
            if len(excluded) > 1:
                continue
            for other in excluded or own:
                new = next((b for b in room if b != batch and self.fits(other, b)), None)
                if new is not None:
                    self.unseat(other, batch)
                    self.seat(other, new)
                    self.seat(row, batch)
                    return True
        return False

    def seat_in_new(self, rows: list[int]) -> list[int]:
        """Open one more batch for rows that found no place; return those that do not fit it either."""
        batch, left = len(self.batches), []
        self.batches.append([])
        self._present.append(Counter())
        self._closed.append(Counter())
        for row in rows:
            if len(self.batches[batch]) < self.part.size and self.fits(row, batch):
                self.seat(row, batch)
            else:
                left.append(row)
        return left

    # -- rows with few or none -------------------------------------------------------------------------------------

    def seat_light(self, rng: np.random.Generator) -> None:
        """Seat rows with few conflicts anywhere, then move those that have met one that they exclude."""
        part = self.part
        room = part.size - np.array([len(own) for own in self.batches])
        order = rng.permutation(len(self.batches))
        places = np.repeat(order, room[order])
        for row, batch in zip(rng.permutation(part.light).tolist(), places.tolist(), strict=False):
            self.batches[batch].append(row)
        for batch in set(places.tolist()):
            self._present[batch] = self._closed[batch] = None
        light = set(part.light.tolist())
        for batch in self._disturbed():
            for row in [row for row in self.batches[batch] if row in light]:
                self.unseat(row, batch)
                if self.fits(row, batch):
                    self.seat(row, batch)
                else:
                    self._exchange(row, batch, light, rng)

    def _disturbed(self) -> list[int]:
        """Return the batches in which rows exclude each other, or may: a pair that is in one for two reasons counts."""
        part = self.part
        seat = np.full(len(part.rows), -1)
        for batch, own in enumerate(self.batches):
            seat[own] = batch
        kinds = len(part.degree_of_class)
        classes = np.array(part.classes, dtype=np.int64)
        there = np.sort((seat * kinds + classes)[seat >= 0])
        rows, opposed = part.entries
        keys = seat[rows] * kinds + opposed
        met = np.searchsorted(there, keys, "right") - np.searchsorted(there, keys, "left")
        met -= classes[rows] == opposed  # a row meets itself
        return np.unique(seat[rows[(met > 0) & (seat[rows] >= 0)]]).tolist()

    def _exchange(self, row: int, batch: int, light: set[int], rng: np.random.Generator) -> None:
        """Seat a row in a batch where it fits, in exchange for one that fits the batch it comes from.

        One that fits nowhere remains without a seat.
        """
        for other in rng.integers(0, len(self.batches), size=_TRIES).tolist():
            if other == batch or not self.fits(row, other):
                continue
            if len(self.batches[other]) < self.part.size:
                self.seat(row, other)
                return
            for x in self.batches[other]:
                if x in light and self.fits(x, batch):
                    self.unseat(x, other)
                    self.seat(x, batch)
                    self.seat(row, other)
                    return

    # -- the rest --------------------------------------------------------------------------------------------------

    def fill(self, rng: np.random.Generator) -> None:
        """Fill what is not full with rows that have a seat elsewhere."""
        rows = cycle(rng.permutation(len(self.part.rows)).tolist())
        for batch, own in enumerate(self.batches):
            tries = 0
            while len(own) < self.part.size and tries < _TRIES:
                row, tries = next(rows), tries + 1
                if row not in own and self.fits(row, batch):
                    self.seat(row, batch)
                    tries = 0

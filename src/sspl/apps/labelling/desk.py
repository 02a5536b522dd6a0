"""Who labels which face next: rounds of faces for each tab, suggestions first."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sspl.apps.labelling.definitions import SUFFIX, Definitions
from sspl.apps.labelling.label_journal import LabelJournal, Values
from sspl.data.inputs import Stamp
from sspl.data.records import MISSING, FaceSet, Labels
from sspl.errors import DataError

ROUND: Final = 20
"""Faces that a tab is given at once."""

TEST: Final = "test"

ENOUGH: Final = 10
"""Faces to learn from with yes, and as many with no, from which a first model is worth a try."""

LEASE_SECONDS: Final = 600.0
"""How long faces stay with a tab that says nothing."""


@dataclass
class Lease:
    """The faces that a tab has before it."""

    faces: list[int]
    seen: float


@dataclass(frozen=True)
class AnswerCounts:
    """Answers to one attribute."""

    yes: int
    no: int
    unsure: int


class Desk:
    """The faces, what is known of them, and who has which.

    Args:
        faces: all of them.
        journal: where answers go.
        attributes: those that are asked for.
        order: places of the faces in the order in which to label them, until suggestions come.
        without: names of faces not to be shown.
        held_out: places of the faces for the test, in an order by chance; a round has its share.
        definitions: what the attributes mean; kept beside the answers unless given.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        faces: FaceSet,
        journal: LabelJournal,
        attributes: tuple[str, ...],
        order: Sequence[int],
        without: frozenset[str] = frozenset(),
        held_out: Sequence[int] = (),
        definitions: Definitions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.faces = faces
        self.journal = journal
        self.attributes = attributes
        beside = journal.out.with_name(journal.out.name + SUFFIX)
        self.definitions = definitions or Definitions(beside)
        # What was answered before, perhaps since it had been suggested, stays to be learnt from.
        answered, splits = set(journal.images()), journal.splits()
        self.held_out = [
            i for i in held_out
            if faces.names[i] not in without
            and (faces.names[i] not in answered or splits.get(faces.names[i]) == TEST)
        ]  # fmt: skip
        self._for_test = frozenset(self.held_out)
        self.order = [i for i in order if faces.names[i] not in without and i not in self._for_test]
        self.without = without
        self.suggested: list[int] = []
        self.place = {name: i for i, name in enumerate(faces.names)}
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._stale: dict[str, frozenset[str]] = {}
        for image in journal.images():
            self._compare(image)

    @property
    def changed(self) -> list[str]:
        """Faces with answers that were given for another picture of their name."""
        return list(self._stale)

    def _compare(self, image: str) -> None:
        """Note the attributes of a face whose answers are of a picture that is there no more."""
        if image not in self.place:
            return
        picture, stamps = self.faces.images[self.place[image]], self.journal.stamps(image)
        fits = {stamp: stamp.fits(picture) for stamp in set(stamps.values())}
        names = frozenset(name for name, stamp in stamps.items() if not fits[stamp])
        if names:
            self._stale[image] = names
        else:
            self._stale.pop(image, None)

    def _standing(self, image: str, values: Values) -> Values:
        stale = self._stale.get(image, frozenset())
        return {name: value for name, value in values.items() if name not in stale}

    def _answers(self) -> dict[str, Values]:
        """Return the answers for each face, without those for another picture."""
        snapshot = self.journal.snapshot()
        return {image: self._standing(image, values) for image, values in snapshot.items()}

    def values(self, face: int) -> dict[str, int | None]:
        """Return the answers for a face to the attributes that are asked for.

        Those that were given for another picture of its name are left out, so they are asked
        for again.
        """
        image = self.faces.names[face]
        found = self._standing(image, self.journal.values(image))
        return {name: found[name] for name in self.attributes if name in found}

    def finished(self, face: int) -> bool:
        """Tell whether every attribute that is asked for has an answer."""
        return len(self.values(face)) == len(self.attributes)

    def round(self, tab: str) -> list[int]:
        """Return up to `ROUND` faces for a tab, which other tabs will not get meanwhile.

        What it has and has not finished comes first, then faces begun earlier, then suggested
        ones, then the others.
        """
        with self._lock:
            now = self._clock()
            self._leases = {
                name: lease
                for name, lease in self._leases.items()
                if now - lease.seen < LEASE_SECONDS
            }
            mine = self._leases.pop(tab, Lease([], now)).faces
            elsewhere = {face for lease in self._leases.values() for face in lease.faces}
            chosen = [face for face in mine if not self.finished(face)]
            if not chosen:
                chosen = self._next(elsewhere)
            self._leases[tab] = Lease(chosen, now)
            return list(chosen)

    def _next(self, elsewhere: set[int]) -> list[int]:
        begun = [self.place[i] for i in self.journal.images() if i in self.place]
        tests = round(ROUND * len(self.held_out) / max(1, len(self.held_out) + len(self.order)))
        held_out = self._free(self.held_out, elsewhere, tests)
        chosen = self._free((*begun, *self.suggested, *self.order), elsewhere, ROUND)
        chosen = [face for face in chosen if face not in held_out][: ROUND - len(held_out)]
        # Spread, so that a round that is broken off has its share too.
        for number, face in enumerate(held_out):
            chosen.insert(number * ROUND // len(held_out), face)
        return chosen

    def _free(self, faces: Iterable[int], elsewhere: set[int], most: int) -> list[int]:
        """Return the first of some faces that are unfinished and nobody else's, each once."""
        chosen: dict[int, None] = {}
        for face in faces:
            if len(chosen) == most:
                break
            hidden = face in elsewhere or self.faces.names[face] in self.without
            if not hidden and not self.finished(face):
                chosen[face] = None
        return list(chosen)

    def answer(self, tab: str, face: int, values: Values) -> int:
        """Save answers for a face; return their number."""
        self._renew(tab)
        image = self.faces.names[face]
        split = TEST if face in self._for_test else None
        number = self.journal.answer(image, values, self._stamp(face), split)
        self._compare(image)
        return number

    def _stamp(self, face: int) -> Stamp | None:
        try:
            return Stamp.of(self.faces.images[face])
        except DataError:
            return None  # The answer counts, although the picture has gone since.

    def undo(self, tab: str, number: int | None) -> tuple[int | None, tuple[str, ...]]:
        """Take an answer back; return its face, None where that is not among these, and attributes.

        The face is before the tab again.
        """
        self._renew(tab)
        image, names = self.journal.undo(number)
        self._compare(image)
        face = self.place.get(image)
        if face is not None:
            with self._lock:
                lease = self._leases.setdefault(tab, Lease([], self._clock()))
                lease.faces = [face, *(f for f in lease.faces if f != face)]
        return face, names

    def _renew(self, tab: str) -> None:
        with self._lock:
            if tab in self._leases:
                self._leases[tab].seen = self._clock()

    def labels(self) -> tuple[Labels, NDArray[np.bool_]]:
        """Return labels int8 (n, a) of all faces, and (n,) which are not to be suggested.

        Faces that came with a split other than `train` are not; their labels are not looked at.
        """
        labels = np.full((len(self.faces), len(self.attributes)), MISSING, dtype=np.int8)
        taken = np.array([name in self.without for name in self.faces.names], dtype=bool)
        taken[self.held_out] = True
        splits = self.journal.splits()
        for image, values in self._answers().items():
            face = self.place.get(image)
            if face is None:
                continue
            taken[face] = True
            if splits.get(image, "train") != "train":
                continue
            for column, name in enumerate(self.attributes):
                value = values.get(name)
                if value is not None:
                    labels[face, column] = value
        return labels, taken

    def counts(self) -> dict[str, AnswerCounts]:
        """Return how often each attribute that is asked for was answered with what."""
        snapshot = self._answers()
        result = {}
        for name in self.attributes:
            given = [values[name] for values in snapshot.values() if name in values]
            result[name] = AnswerCounts(given.count(1), given.count(0), given.count(None))
        return result

    def lacking(self) -> dict[str, tuple[int, int]]:
        """Return how many yes and no each attribute lacks for a first model: those that do."""
        labels, _ = self.labels()
        found = {}
        for column, name in enumerate(self.attributes):
            yes, no = (int((labels[:, column] == value).sum()) for value in (1, 0))
            if min(yes, no) < ENOUGH:
                found[name] = (max(0, ENOUGH - yes), max(0, ENOUGH - no))
        return found

    def done(self) -> tuple[int, int]:
        """Return how many faces are finished, and how many there are to label."""
        names = [name for name in self.faces.names if name not in self.without]
        snapshot = self._answers()
        asked = set(self.attributes)
        return sum(asked <= snapshot.get(name, {}).keys() for name in names), len(names)

"""In the background: suggestions, and how well a probe learns each attribute, every few answers."""

import logging
import threading
from dataclasses import dataclass
from typing import Final

import numpy as np

from sspl.apps.labelling.desk import ROUND, Desk
from sspl.apps.labelling.features import extract
from sspl.apps.labelling.probe import Standing, standing
from sspl.apps.labelling.selection import choose
from sspl.apps.labelling.suggest import Answers, judged
from sspl.data.images import Box
from sspl.data.records import MISSING
from sspl.errors import SsplError
from sspl.training.feature_source import FeatureSource

SUGGESTED: Final = 2 * ROUND
PATIENCE: Final = 60.0
"""Seconds to wait for the thread; torch does not like to be cut off."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """How well a probe knew the attributes at one time.

    Args:
        faces: how many had an answer.
        standings: by attribute.
    """

    faces: int
    standings: dict[str, Standing]

    def mean(self) -> tuple[float, float, float] | None:
        """Return the mean balanced accuracy over attributes that have one, and its limits.

        The limits are the means of theirs: those of a sum of errors that all go the same way, so
        rather too wide than too narrow. None where no attribute has a figure.
        """
        found = [
            (s.balanced_accuracy, s.low, s.high)
            for s in self.standings.values()
            if s.balanced_accuracy is not None
        ]
        if not found:
            return None
        middle, low, high = np.array(found, dtype=np.float64).mean(axis=0)
        return float(middle), float(low), float(high)


class Coach:
    """A thread that looks at all faces once, then learns from the answers again and again.

    Args:
        source: the network that it looks with.
        desk: where it finds answers and leaves suggestions.
        box: part of each picture to look at; the source's own unless given.
        every: answers after which it learns again.
        seed: of its draws.
        device: where the network runs.

    Attributes:
        seen: faces looked at so far.
        reports: one for each time that it learnt, the latest last.
        trouble: why there are no suggestions, if there are none to come.
    """

    def __init__(
        self, source: FeatureSource, desk: Desk, box: Box | None, every: int, seed: int, device: str
    ) -> None:
        self.source = source
        self.desk = desk
        self.box = box
        self.every = every
        self.seed = seed
        self.device = device
        self.seen = 0
        self.reports: list[Report] = []
        self.trouble: str | None = None
        self._answers = 0
        self._wanted = threading.Event()
        self._wanted.set()
        self._stop = False
        self._thread = threading.Thread(target=self._work, name="coach", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Come to an end after what is under way, and wait for that."""
        self._stop = True
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def answered(self) -> None:
        """Take note that there is one more answer, or one less."""
        self._answers += 1
        if self._answers >= self.every:
            self._answers = 0
            self._wanted.set()

    def _work(self) -> None:
        try:
            features = extract(
                self.source, self.desk.faces, self.box, device=self.device, seen=self._count
            )
            while self._wanted.wait() and not self._stop:
                self._wanted.clear()
                labels, taken = self.desk.labels()
                answers = Answers(self.desk.attributes, labels, taken)
                rng = np.random.default_rng([self.seed, int(taken.sum())])
                views = judged(self.source, features, answers)
                picked = choose(features.values, views, taken, SUGGESTED, rng)
                self.desk.suggested = [int(face) for face in picked]
                self.reports.append(_report(answers, features.values))
        except _StopError:
            pass
        except SsplError as error:
            self.trouble = f"there are no suggestions: {error}"
        except Exception:
            log.exception("the suggestions failed")
            self.trouble = "there are no suggestions: the program failed; its log says how."

    def _count(self, faces: int) -> None:
        if self._stop:
            raise _StopError
        self.seen += faces


class _StopError(Exception):
    """The faces need not be looked at any more."""


def _report(answers: Answers, features: np.ndarray) -> Report:
    known = answers.labels != MISSING
    standings = {}
    for column, name in enumerate(answers.attributes):
        rows = np.flatnonzero(known[:, column])
        standings[name] = standing(features[rows], answers.labels[rows, column])
    return Report(int(known.any(axis=1).sum()), standings)

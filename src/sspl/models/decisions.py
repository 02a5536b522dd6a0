"""From a probability to yes, no or not sure."""

from collections.abc import Mapping, Sequence
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sspl.settings import Settings

THRESHOLD: Final = 0.5

Band = tuple[float, float]
"""Probabilities strictly between its ends are not sure."""


def check_decisions(thresholds: Mapping[str, float], unsure: Mapping[str, Band]) -> None:
    """Raise `ValueError` for a threshold or band out of 0 to 1, naming its attribute."""
    for name, value in thresholds.items():
        if not 0 <= value <= 1:
            raise ValueError(f"the threshold of {name} must be from 0 to 1")
    for name, (low, high) in unsure.items():
        if not 0 <= low <= high <= 1:
            raise ValueError(f"the band of {name} must be low, high with 0 <= low <= high <= 1")


class Decisions(Settings):
    """What a model decides by; attributes that are not named are decided at 0.5, and surely.

    Attributes:
        thresholds: attribute to the probability from which it is there.
        unsure: attribute to the band of probabilities where the answer is "not sure".
    """

    thresholds: dict[str, float] = Field(default_factory=dict)
    unsure: dict[str, Band] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_decisions(self.thresholds, self.unsure)
        return self

    def unknown(self, names: Sequence[str]) -> list[str]:
        """Return the attributes that are named here, but not among `names`."""
        return sorted((self.thresholds.keys() | self.unsure.keys()) - set(names))

    def threshold_array(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Return float64 (attributes,), the threshold of each of `names`."""
        return np.array([self.thresholds.get(name, THRESHOLD) for name in names])

    def decide(
        self, names: Sequence[str], probabilities: NDArray[np.floating]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return whether each attribute is there, and whether that is not sure.

        Args:
            names: attributes.
            probabilities: float (n, attributes).

        Both results are bool (n, attributes).
        """
        bands = np.array([self.unsure.get(name, (0.0, 0.0)) for name in names]).reshape(-1, 2)
        unsure = (probabilities > bands[:, 0]) & (probabilities < bands[:, 1])
        return probabilities >= self.threshold_array(names), unsure

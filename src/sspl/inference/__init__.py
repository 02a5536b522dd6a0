"""Predictions for pictures without labels."""

from typing import TYPE_CHECKING

from sspl import public

if TYPE_CHECKING:
    from sspl.inference.api import Answer as Answer
    from sspl.inference.api import FacePredictions as FacePredictions
    from sspl.inference.api import Predictor as Predictor
    from sspl.inference.api import load as load
else:
    __getattr__, __all__ = public(__name__, api="Answer FacePredictions Predictor load")

"""Figures of merit: pure functions and small accumulators."""

from typing import TYPE_CHECKING

from sspl import public

if TYPE_CHECKING:
    from sspl.metrics.attributes import AttributeFigures as AttributeFigures
    from sspl.metrics.attributes import all_figures as all_figures
    from sspl.metrics.attributes import attribute_figures as attribute_figures
    from sspl.metrics.attributes import expected_calibration_error as expected_calibration_error
    from sspl.metrics.attributes import means as means
    from sspl.metrics.attributes import positive_rates as positive_rates
    from sspl.metrics.pixels import confusion_matrix as confusion_matrix
    from sspl.metrics.pixels import intersection_over_union as intersection_over_union
    from sspl.metrics.pixels import mean_iou as mean_iou
    from sspl.metrics.tallies import Confusion as Confusion
    from sspl.metrics.tallies import Mean as Mean
else:
    __getattr__, __all__ = public(
        __name__,
        attributes="AttributeFigures all_figures attribute_figures expected_calibration_error "
        "means positive_rates",
        pixels="confusion_matrix intersection_over_union mean_iou",
        tallies="Confusion Mean",
    )

"""Stage-1 tasks; one file holds one task: settings, targets, head, loss and metrics."""

from typing import Final

from sspl.tasks.base import PretextTask, TaskContext, TaskResult, Views
from sspl.tasks.byol import BYOL
from sspl.tasks.colourise import Colourisation
from sspl.tasks.location import RelativeLocation
from sspl.tasks.masked import MaskedModelling
from sspl.tasks.pct import PatchClassification
from sspl.tasks.prt import PatchRotation
from sspl.tasks.pst import PatchSegmentation
from sspl.tasks.rotnet import WholeRotation
from sspl.tasks.simclr import SimCLR

__all__ = [
    "BYOL",
    "TASKS",
    "Colourisation",
    "MaskedModelling",
    "PatchClassification",
    "PatchRotation",
    "PatchSegmentation",
    "PretextTask",
    "RelativeLocation",
    "SimCLR",
    "TaskContext",
    "TaskResult",
    "Views",
    "WholeRotation",
]

TASKS: Final[tuple[type[PretextTask], ...]] = (
    # The paper's three, then those of other papers, to compare with.
    PatchRotation,
    PatchSegmentation,
    PatchClassification,
    WholeRotation,
    RelativeLocation,
    SimCLR,
    BYOL,
    Colourisation,
    MaskedModelling,
)
"""The tasks that the settings know by name; a new one needs its file and its line here."""

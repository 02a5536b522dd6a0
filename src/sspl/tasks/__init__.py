"""Stage-1 tasks; one file holds one task: targets, head, loss and metrics."""

from typing import TYPE_CHECKING

from sspl import public

if TYPE_CHECKING:
    from sspl.tasks.attributes import KnownAttributes as KnownAttributes
    from sspl.tasks.base import PretextTask as PretextTask
    from sspl.tasks.base import TaskContext as TaskContext
    from sspl.tasks.base import TaskResult as TaskResult
    from sspl.tasks.base import Views as Views
    from sspl.tasks.byol import BYOL as BYOL
    from sspl.tasks.colourise import Colourisation as Colourisation
    from sspl.tasks.loading import TASKS as TASKS
    from sspl.tasks.location import RelativeLocation as RelativeLocation
    from sspl.tasks.masked import MaskedModelling as MaskedModelling
    from sspl.tasks.pct import PatchClassification as PatchClassification
    from sspl.tasks.prt import PatchRotation as PatchRotation
    from sspl.tasks.pst import PatchSegmentation as PatchSegmentation
    from sspl.tasks.rotnet import WholeRotation as WholeRotation
    from sspl.tasks.simclr import SimCLR as SimCLR
else:
    __getattr__, __all__ = public(
        __name__,
        attributes="KnownAttributes",
        base="PretextTask TaskContext TaskResult Views",
        byol="BYOL",
        colourise="Colourisation",
        loading="TASKS",
        location="RelativeLocation",
        masked="MaskedModelling",
        pct="PatchClassification",
        prt="PatchRotation",
        pst="PatchSegmentation",
        rotnet="WholeRotation",
        simclr="SimCLR",
    )

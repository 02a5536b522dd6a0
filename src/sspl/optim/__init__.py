"""What steers learning: optimisers, schedules, averaged weights."""

from typing import TYPE_CHECKING

from sspl import public

if TYPE_CHECKING:
    from sspl.optim.averaging import averaged_model as averaged_model
    from sspl.optim.optim_settings import OptimSettings as OptimSettings
    from sspl.optim.optimiser import make_optimiser as make_optimiser
    from sspl.optim.optimiser import set_lr as set_lr
    from sspl.optim.optimiser import step as step
    from sspl.optim.schedules import ScheduleSettings as ScheduleSettings
    from sspl.optim.schedules import stepwise as stepwise
    from sspl.optim.schedules import warmup_cosine as warmup_cosine
else:
    __getattr__, __all__ = public(
        __name__,
        averaging="averaged_model",
        optim_settings="OptimSettings",
        optimiser="make_optimiser set_lr step",
        schedules="ScheduleSettings stepwise warmup_cosine",
    )

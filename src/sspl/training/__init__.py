"""Stage 1 and stage 2, their settings, schedules, checkpoints and run folders."""

from typing import TYPE_CHECKING

from sspl import public

if TYPE_CHECKING:
    from sspl.training.backbone_weights import load_backbone as load_backbone
    from sspl.training.loss_settings import LossSettings as LossSettings
    from sspl.training.losses import attribute_loss as attribute_loss
    from sspl.training.losses import masked_bce as masked_bce
    from sspl.training.stage_settings import FinetuneSettings as FinetuneSettings
    from sspl.training.stage_settings import PretrainSettings as PretrainSettings
else:
    # `pretrain` and `finetune` bear the names of their modules: take them from there.
    __getattr__, __all__ = public(
        __name__,
        backbone_weights="load_backbone",
        losses="LossSettings attribute_loss masked_bce",
        stage_settings="FinetuneSettings PretrainSettings",
    )

"""What the losses of both stages are made of, as settings."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from sspl.data.data_settings import DataSettings
from sspl.data.view_settings import ColourSettings, GeometrySettings
from sspl.settings import Settings

Share = Annotated[float, Field(ge=0, lt=1)]


class AdversarialSettings(Settings):
    """Settings of the adversarial term; `splnet` alone has one. They are the reference's."""

    weight: float = Field(1.0, ge=0, description="loss weight; 0 switches the term off")
    every: int = Field(3, ge=1, description="steps between updates of the discriminator")
    lr: float = Field(5e-4, gt=0, description="learning rate of the discriminator")
    betas: tuple[Share, Share] = Field((0.9, 0.99), description="of the discriminator's Adam")
    weight_decay: float = Field(5e-4, ge=0, description="of the discriminator")


class LossSettings(Settings):
    """The loss of the labelled faces; `bce` is the paper's, the others go beyond it.

    - `asymmetric` (Ridnik et al., ICCV 2021) plays down easy negatives.
    - `logit_adjusted` (Menon et al., ICLR 2021) trains for balanced accuracy: it adds the
      log-odds of each attribute's share to the logits, in training alone.
    - `bootstrap` (Reed et al., ICLR workshop 2015, soft form) trusts a label no more than
      `belief` and the network's own opinion for the rest, against wrong labels.

    Examples:
        >>> LossSettings(name="asymmetric").gamma_negative
        2.0
    """

    name: Literal["bce", "asymmetric", "logit_adjusted", "bootstrap"] = Field(
        "bce", description="loss of the labelled faces; bce is the paper's"
    )
    gamma_positive: float = Field(0.0, ge=0, description="asymmetric: focus on hard positives")
    gamma_negative: float = Field(2.0, ge=0, description="asymmetric: focus on hard negatives")
    margin: float = Field(0.05, ge=0, lt=1, description="asymmetric: negatives below it are free")
    adjustment: float = Field(1.0, ge=0, description="logit_adjusted: factor on the log-odds")
    belief: float = Field(0.9, gt=0, le=1, description="bootstrap: weight of the given label")


class DistillationSettings(Settings):
    """Learning what other models say of faces without labels.

    Such faces are the training faces whose labels are not used, and `data`. An epoch then goes
    through labelled and unlabelled faces alike, so that a few are enough.
    """

    teachers: tuple[Path, ...] = Field(
        (), description="fine-tuned runs or models whose mean stands in for labels; none: no such"
    )
    data: tuple[DataSettings, ...] = Field((), description="more unlabelled faces")


class ConsistencySettings(Settings):
    """Learning from the training faces whose labels are not used, and from `data`.

    The teacher, the network's averaged weights, looks at a plain view of a face; the network
    sees a strongly changed one. An attribute counts where the teacher gives it a probability of
    at least `threshold` or at most 1 - `threshold`.
    """

    weight: float = Field(0.0, ge=0, description="0 leaves unlabelled faces alone")
    data: tuple[DataSettings, ...] = Field((), description="more unlabelled faces")
    ratio: int = Field(2, ge=1, description="unlabelled faces for each labelled one in a batch")
    threshold: float = Field(
        0.9, ge=0.5, lt=1, description="probability from which the teacher is sure"
    )
    soft: bool = Field(False, description="learn the teacher's probability, not its decision")
    ramp_epochs: int = Field(5, ge=0, description="epochs over which the weight rises")
    geometry: GeometrySettings = GeometrySettings(scale=(0.7, 1.1), rotation=12)
    colour: ColourSettings = ColourSettings(
        brightness=0.4, contrast=0.4, saturation=0.4, cast=0.1, grey=0.1
    )
    erase: float = Field(0.4, ge=0, lt=1, description="largest side of the square made grey")

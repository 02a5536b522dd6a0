"""SimCLR: two views of one face are to be more alike than views of different faces.

Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual
Representations", ICML 2020: the loss NT-Xent (equation 1), a projection head of one hidden layer,
strong crops and colours. There is no blur, and batches are far below those of the paper. Where a
batch is shared by several processes, or dealt with in parts, faces are compared within each share.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sspl.data.transforms import random_view
from sspl.data.view_settings import ColourSettings, GeometrySettings
from sspl.metrics.tallies import Mean
from sspl.models.backbones.base import Backbone, pooled
from sspl.settings import Settings
from sspl.tasks.base import Maps, PretextTask, Regions, TaskContext, TaskResult, Views


class TwoViewSettings(Settings):
    """How the two views of a face are drawn; stronger than the crop that other tasks share."""

    geometry: GeometrySettings = GeometrySettings(scale=(0.4, 1.0), shift=1.0, rotation=10)
    colour: ColourSettings = ColourSettings(
        brightness=0.4, contrast=0.4, saturation=0.4, cast=0.1, grey=0.2
    )


class SimCLRSettings(TwoViewSettings):
    """Settings of SimCLR."""

    temperature: float = Field(0.2, gt=0, description="of the softmax over similarities")
    projection: int = Field(128, ge=2, description="size of the vectors that are compared")


def two_views(views: Views, settings: TwoViewSettings) -> Tensor:
    """Return float (2n, 3, s, s): one view of every canvas, then another of each."""
    size = views.crop.shape[-1]
    drawn = [
        random_view(views.canvas, settings.geometry, settings.colour, size, views.generator)
        for _ in range(2)
    ]
    return torch.cat(drawn).contiguous(memory_format=torch.channels_last)


def similarities(vectors: Tensor) -> Tensor:
    """Return float32 (m, m) cosine similarities of vectors (m, d), minus infinity of itself."""
    unit = F.normalize(vectors.float(), dim=1)
    found = unit @ unit.T
    return found.masked_fill(torch.eye(len(unit), dtype=torch.bool, device=unit.device), -torch.inf)


def partners(n: int, device: torch.device) -> Tensor:
    """Return int64 (2n,): where the other view of the same face stands."""
    return torch.arange(2 * n, device=device).roll(n)


def nt_xent(vectors: Tensor, temperature: float) -> Tensor:
    """Return the normalised temperature-scaled cross-entropy, scalar.

    `vectors` are float (2n, d): n faces in one view, then the same in another. Each of the 2n is
    to find its partner among the 2n - 1 others (paper, equation 1 and algorithm 1).
    """
    partner = partners(len(vectors) // 2, vectors.device)
    return F.cross_entropy(similarities(vectors) / temperature, partner)


class SimCLR(PretextTask):
    """A projection of the pooled feature, compared between two views.

    Examples:
        >>> backbone = build_backbone(BackboneSettings(width=0.125))
        >>> context = TaskContext(backbone, load_taxonomy("celebamask19"), input_size=32)
        >>> SimCLR(SimCLR.Settings(temperature=0.5), context).settings.temperature
        0.5
    """

    name = "simclr"
    uses_crop = False
    needs_masks = False
    Settings = SimCLRSettings
    uses_all_parameters = True

    def __init__(self, settings: SimCLRSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.settings = settings
        features = context.features
        self.head = nn.Sequential(
            nn.Linear(features, features),
            nn.ReLU(),
            nn.Linear(features, settings.projection),
        )

    def forward(
        self, backbone: Backbone, views: Views, maps: Maps, regions: Regions = None
    ) -> TaskResult:
        """Return NT-Xent; metric `accuracy`: how often the most similar view is the partner."""
        pictures = two_views(views, self.settings)
        with self.beside_crops(backbone, maps):
            vectors = self.head(pooled(backbone(pictures)))
        with torch.no_grad():
            partner = partners(len(views.canvas), vectors.device)
            hits = similarities(vectors).argmax(1) == partner
        accuracy = Mean(hits.sum(), len(hits))
        return TaskResult(nt_xent(vectors, self.settings.temperature), {"accuracy": accuracy})

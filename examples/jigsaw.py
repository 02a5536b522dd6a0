"""A stage-1 task of one's own: tell how the four quarters of a face were shuffled.

    sspl pretrain ... 'tasks=[prt,pst,examples/jigsaw.py:Jigsaw]' weights.jigsaw=0.5

Jigsaw puzzles as a pretext task: Noroozi and Favaro, ECCV 2016; here one picture with its
quarters exchanged, and one of the 24 orders to name.
"""

import itertools

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sspl.data.transforms import cut_squares, normalise
from sspl.distributed.random import randint
from sspl.models.backbones.base import Backbone, pooled
from sspl.settings import Settings
from sspl.tasks import PretextTask, TaskContext, TaskResult, Views
from sspl.tasks.base import Maps, Regions, accuracy_tally
from sspl.tasks.prt import draw_offsets, patch_side

GRID = 2
ORDERS = torch.tensor(list(itertools.permutations(range(GRID**2))))


class JigsawSettings(Settings):
    """Settings of the jigsaw, under `task.jigsaw`."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)


class Jigsaw(PretextTask):
    """A linear head on the pooled feature of the shuffled picture; one class for each order."""

    name = "jigsaw"
    uses_crop = False
    needs_masks = False
    Settings = JigsawSettings

    def __init__(self, settings: JigsawSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.size, self.smoothing = context.input_size // GRID * GRID, settings.label_smoothing
        self.head = nn.Linear(context.features, len(ORDERS))

    def shuffle(self, views: Views) -> tuple[Tensor, Tensor]:
        """Return pictures float32 (n, 3, s, s) in [-1, 1] and the order of each, int64 (n,).

        A patch is drawn inside each quarter, so that edges do not continue from one to the next.
        """
        n, canvas, device = len(views.canvas), views.canvas.shape[-1], views.canvas.device
        top, left = draw_offsets(n, canvas, GRID, views.generator)
        side = patch_side(canvas, GRID)
        patches = cut_squares(views.canvas, top.to(device), left.to(device), side)
        order = randint(len(ORDERS), (n,), views.generator)
        shuffled = patches[torch.arange(n)[:, None], ORDERS[order]].float()
        small = F.interpolate(
            shuffled.flatten(0, 1), self.size // GRID, mode="bilinear", align_corners=False
        )
        rows = small.view(n, GRID, GRID, 3, *small.shape[2:]).permute(0, 3, 1, 4, 2, 5)
        return normalise(rows.reshape(n, 3, self.size, self.size)), order.to(device)

    def forward(
        self, backbone: Backbone, views: Views, maps: Maps, regions: Regions = None
    ) -> TaskResult:
        """Return the cross-entropy over the orders; metric `accuracy`."""
        pictures, order = self.shuffle(views)
        # Shuffled faces must not be averaged into what stage 2 knows of plain ones.
        with self.beside_crops(backbone, maps):
            logits = self.head(pooled(backbone(pictures))).float()
        accuracy = accuracy_tally(logits, order)
        loss = F.cross_entropy(logits, order, label_smoothing=self.smoothing)
        return TaskResult(loss, {"accuracy": accuracy})

"""PRT, patch rotation: which patch of the face was turned, and by what angle.

docs/method.md#prt-patch-rotation.
"""

import copy
from contextlib import nullcontext
from typing import Final, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from sspl.data.transforms import cut_squares
from sspl.distributed.group import shared_count
from sspl.distributed.random import rand, randint, sent
from sspl.models.activation import PReLU
from sspl.models.backbones.base import Backbone, pooled
from sspl.settings import Settings
from sspl.tasks.base import (
    Maps,
    PretextTask,
    Regions,
    TaskContext,
    TaskResult,
    Views,
    accuracy_tally,
    frozen_running_averages,
)

PATCH_OF_512: Final = {2: 236, 3: 150, 4: 100}
"""Side of a patch for each grid, in px of a 512 px picture (the reference's)."""

ANGLES: Final = 4
NO_LABEL: Final = -100
TOGETHER: Final = {"together": (-3, -2, -1), "channels": (-2, -1)}
"""Dimensions of a patch (channels, rows, columns) that are standardised as one."""

FEW_PIXELS: Final = 1_500_000
"""Values of patches that are normalised at a time."""


class PRTSettings(Settings):
    """Settings of patch rotation.

    `angle_zero` is whether an unturned patch has a which-patch label; `norm_averages` which of the
    two inputs BatchNorm's running averages come from: plain crops alone, both, or each its own
    (and then its own scales and shifts too). `standardise` is what of a patch is normalised by its
    own mean and deviation: all channels together, or each channel.
    """

    grid: Literal[2, 3, 4] = Field(3, description="m: the picture is cut into m x m cells")
    patch_size: int | None = Field(None, ge=8, description="patch side in px; default: the input's")
    background_limit: float = Field(0.5, gt=0, le=1, description="largest background share to turn")
    jitter: float = Field(4.0, ge=0, description="largest shift of a colour channel, grey levels")
    angle_zero: Literal["ignore", "label"] = Field(
        "ignore", description="whether an unturned patch has a which-patch label"
    )
    norm_averages: Literal["crops", "shared", "separate"] = Field(
        "crops",
        description="inputs of BatchNorm's averages: plain crops, both kinds, or each its own",
    )
    standardise: Literal["together", "channels"] = Field(
        "together", description="what of a patch is normalised by itself: all channels, or each"
    )


def cell_edges(size: int, grid: int) -> list[int]:
    """Return the `grid` + 1 integer edges that cut `size` px into cells that fill it exactly."""
    return [i * size // grid for i in range(grid + 1)]


def patch_side(canvas: int, grid: int) -> int:
    """Return the side of a patch in px: the reference's share of the picture."""
    return canvas * PATCH_OF_512[grid] // 512


def draw_offsets(
    n: int, canvas: int, grid: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw the top and left pixel of a patch inside each cell, row by row.

    Returns two int64 tensors (n, grid * grid); every patch lies wholly inside its cell.
    """
    edges = torch.tensor(cell_edges(canvas, grid))
    slack = edges[1:] - edges[:-1] - patch_side(canvas, grid)
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")

    offsets = []
    for cells in (rows.flatten(), columns.flatten()):
        room = slack[cells].expand(n, -1) + 1
        offsets.append(edges[cells] + (rand(room.shape, generator) * room).long())
    return offsets[0], offsets[1]


def choose_patches(background: Tensor, limit: float, generator: torch.Generator) -> Tensor:
    """Choose one patch of each face among those whose background share is at most `limit`.

    Args:
        background: float (n, patches), share of background pixels in each patch.
        limit: as `PRTSettings.background_limit`.

    Returns int64 (n,); where every patch exceeds the limit, the one with the least background.
    """
    score = sent(rand(background.shape, generator), background.device)
    score = torch.where(background <= limit, score, -1 - background)
    return score.argmax(1)


def standardise(
    patches: Tensor,
    shift: Tensor | None = None,
    over: Literal["together", "channels"] = "together",
) -> Tensor:
    """Normalise each patch (..., c, h, w) by its own mean and standard deviation, to float32.

    Both are taken over all channels together, or of each channel, which undoes the colour jitter.
    That is `shift`, (..., c, 1, 1), which is added before.
    """
    every = TOGETHER[over]
    pixels = torch.empty(patches.shape, dtype=torch.float32, device=patches.device)
    shape = patches.shape[-3:]
    count = shape[-len(every) :].numel()
    if shift is None:
        shift = pixels.new_zeros(1, 1, 1)
    shifts = (shift - shift.mean(every, True)).expand(*patches.shape[:-2], 1, 1)
    # On a CPU a few patches at a time stay in its cache while all is done to them.
    few = max(1, FEW_PIXELS // shape.numel()) if patches.device.type == "cpu" else patches.numel()
    parts = (torch.split(t.flatten(0, -4), few) for t in (pixels, patches, shifts))
    for out, given, moved in zip(*parts, strict=True):
        out.copy_(given)
        out.add_(moved - out.mean(every, True))
        # Many times faster than `std`, which counts pixel by pixel.
        deviation = torch.linalg.vector_norm(out, dim=every, keepdim=True)
        out.div_(deviation / count**0.5 + 1.0)
    return pixels


def turn(patches: Tensor, quarters: Tensor) -> Tensor:
    """Rotate (n, c, s, s) counter-clockwise by quarter turns, int64 (n,) on the CPU."""
    turned = patches.clone()
    for angle in range(1, ANGLES):
        rows = sent((quarters == angle).nonzero()[:, 0], patches.device)
        turned.index_copy_(0, rows, patches.index_select(0, rows).rot90(angle, (2, 3)))
    return turned


class PatchRotation(PretextTask):
    """Patches are stacked along channels, reduced to three and sent through the backbone.

    A patch turned by 0 degrees leaves no trace of which one it was, so such faces teach the
    angle head alone unless the settings say otherwise: their which-patch label is left out of loss
    and accuracy (docs/method.md#do-not-repeat-5). Beside a task that uses plain crops, BatchNorm's
    running averages come from those alone, which are what stage 2 feeds the backbone, unless the
    settings say otherwise ("Do not repeat" 12). The stacks pass through the backbone only, never
    through the branches of `splnet`: a branch looks for one part of a face, and in a stack of nine
    patches no part has a place.

    Examples:
        >>> backbone = build_backbone(BackboneSettings(width=0.125))
        >>> context = TaskContext(backbone, load_taxonomy("celebamask19"), input_size=32)
        >>> task = PatchRotation(PatchRotation.Settings(grid=2), context)
        >>> task.which.out_features, task.angle.out_features
        (4, 4)
    """

    name = "prt"
    uses_crop = False
    needs_masks = False
    Settings = PRTSettings

    def __init__(self, settings: PRTSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.settings = settings
        self.size = settings.patch_size or context.input_size
        self.background = context.taxonomy.background
        places = settings.grid**2
        self.reduce = nn.Sequential(
            nn.Conv2d(3 * places, 3, 1, bias=False), nn.BatchNorm2d(3), PReLU(3)
        )
        self.which = nn.Linear(context.features, places)
        self.angle = nn.Linear(context.features, ANGLES)
        separate = settings.norm_averages == "separate"
        self.norms = OwnNorms(context.backbone) if separate else None
        self.uses_all_parameters = not separate

    def stack(self, views: Views) -> tuple[Tensor, Tensor, Tensor]:
        """Return the stacks float32 (n, 3 * m * m, s, s), which patch (n,) and quarters (n,).

        Which patch is `NO_LABEL` where the angle is 0 and `angle_zero` says to ignore it.
        """
        grid, generator = self.settings.grid, views.generator
        n, canvas, device = len(views.canvas), views.canvas.shape[-1], views.canvas.device
        side = patch_side(canvas, grid)
        top, left = (sent(x, device) for x in draw_offsets(n, canvas, grid, generator))
        patches = cut_squares(views.canvas, top, left, side)
        shift = rand((n, grid**2, 3, 1, 1), generator) * 2 - 1
        which = choose_patches(
            self._background_share(views, top, left, side),
            self.settings.background_limit,
            generator,
        )
        quarters = randint(ANGLES, (n,), generator)
        face = torch.arange(n, device=device)
        # Before resizing, whose traces in rows and columns would tell which way a patch was up.
        patches[face, which] = turn(patches[face, which], quarters)
        shift, quarters = sent(shift, device) * self.settings.jitter, sent(quarters, device)
        patches = standardise(self._resize(patches), shift, self.settings.standardise)
        if self.settings.angle_zero == "ignore":
            which = which.where(quarters > 0, NO_LABEL)
        return patches.flatten(1, 2), which, quarters

    def _resize(self, patches: Tensor) -> Tensor:
        flat = patches.flatten(0, 1)
        if flat.device.type != "cpu":
            flat = flat.float()  # on a CPU whole grey levels are resized several times faster
        flat = F.interpolate(flat, (self.size, self.size), mode="bilinear", align_corners=False)
        return flat.contiguous().view(*patches.shape[:3], self.size, self.size)

    def _background_share(self, views: Views, top: Tensor, left: Tensor, side: int) -> Tensor:
        if views.canvas_mask is None:
            return torch.zeros(top.shape, device=top.device)
        masks = cut_squares(views.canvas_mask[:, None], top, left, side).flatten(2)
        # Compared in place bytes stay bytes, which are compared and added many at once.
        return masks.eq_(self.background).sum(2, dtype=torch.int32) / side**2

    def _through(self, backbone: Backbone, stacks: Tensor, crops: bool) -> list[Tensor]:
        if self.norms is not None:
            return self.norms.through(backbone, stacks)
        # Where no crop passes through the backbone, the stacks are all there is to average.
        frozen = crops and self.settings.norm_averages == "crops"
        with frozen_running_averages(backbone) if frozen else nullcontext():
            maps: list[Tensor] = backbone(stacks)
        return maps

    def forward(
        self, backbone: Backbone, views: Views, maps: Maps, regions: Regions = None
    ) -> TaskResult:
        """Return the sum of both cross-entropies; accuracies `which` and `angle`."""
        stacks, which, quarters = self.stack(views)
        reduced = self.reduce(stacks.contiguous(memory_format=torch.channels_last))
        feature = pooled(self._through(backbone, reduced, crops=maps is not None))
        which_logits, angle_logits = self.which(feature).float(), self.angle(feature).float()
        loss = F.cross_entropy(angle_logits, quarters)
        told = F.cross_entropy(which_logits, which, ignore_index=NO_LABEL, reduction="sum")
        loss = loss + told / shared_count((which != NO_LABEL).sum())
        return TaskResult(
            loss,
            {
                "which_accuracy": accuracy_tally(which_logits, which, NO_LABEL),
                "angle_accuracy": accuracy_tally(angle_logits, quarters),
            },
        )


class OwnNorms(nn.Module):
    """Copies of a module's BatchNorm layers that stand in for them when wanted.

    Two kinds of input then share the module's other weights while each has its own statistics,
    scales and shifts (Xie et al., "Adversarial Examples Improve Image Recognition", CVPR 2020).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        found = {n: m for n, m in module.named_modules() if isinstance(m, _BatchNorm)}
        self.places = list(found)
        self.layers = nn.ModuleList(copy.deepcopy(layer) for layer in found.values())

    def through(self, module: nn.Module, x: Tensor) -> list[Tensor]:
        """Return `module(x)` with these layers in place of the module's own."""
        tensors = {
            f"{place}.{name}": tensor
            for place, layer in zip(self.places, self.layers, strict=True)
            for name, tensor in (*layer.named_parameters(), *layer.named_buffers())
        }
        maps: list[Tensor] = functional_call(module, tensors, (x,))
        return maps

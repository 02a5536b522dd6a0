"""Random views of a batch; image and mask share one geometry, so they cannot drift apart.

All draws come from a CPU generator handed in, whatever the device of the batch, so that the
same seed gives the same views on any machine and with any number of workers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sspl.data.view_settings import ColourSettings, GeometrySettings
from sspl.distributed.random import rand, sent, uniform
from sspl.domain.taxonomy import UNKNOWN


@dataclass(frozen=True)
class Geometry:
    """One geometry per image.

    Args:
        theta: float32 (n, 2, 3), view coordinates to canvas coordinates, both in [-1, 1]
            from edge to edge (`align_corners=False`).
        flipped: bool (n,) on the CPU, whether left and right traded places.
    """

    theta: Tensor
    flipped: Tensor

    def grid(self, size: int) -> Tensor:
        """Return where the pixels of a view of `size` px are taken from, float32 (n, s, s, 2)."""
        middles = (torch.arange(size, device=self.theta.device) * 2 + 1) / size - 1
        right, down, centre = self.theta[:, :, :, None, None].unbind(2)
        # One coordinate after the other in memory: this adds, and sampling reads, rows at once.
        return (right * middles + (down * middles[:, None] + centre)).permute(0, 2, 3, 1)

    def to(self, device: torch.device) -> "Geometry":
        """Return the geometry for pictures on a device."""
        return Geometry(sent(self.theta, device), self.flipped)


def identity_geometry(n: int) -> Geometry:
    """Return the geometry that shows each whole canvas as it is."""
    return Geometry(torch.eye(2, 3).repeat(n, 1, 1), torch.zeros(n, dtype=torch.bool))


def draw_geometry(n: int, settings: GeometrySettings, generator: torch.Generator) -> Geometry:
    """Draw `n` geometries.

    Examples:
        >>> still = GeometrySettings(scale=(1, 1), flip=1)
        >>> (draw_geometry(1, still, torch.Generator()).theta + 0).tolist()
        [[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    """
    low, high = (math.log(s) for s in settings.scale)
    scale = uniform(generator, (n,), low, high).exp()
    angle = uniform(generator, (n,), -1, 1) * math.radians(settings.rotation)
    slack = (1 - scale).abs() * settings.shift
    centre = uniform(generator, (n, 2), -1, 1) * slack[:, None]
    flipped = rand((n,), generator) < settings.flip
    cos, sin = scale * angle.cos(), scale * angle.sin()
    mirror = torch.where(flipped, -1.0, 1.0)
    rows = [
        torch.stack([cos * mirror, -sin, centre[:, 0]], dim=1),
        torch.stack([sin * mirror, cos, centre[:, 1]], dim=1),
    ]
    return Geometry(torch.stack(rows, dim=1), flipped)


def cut_squares(pictures: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Cut (n, c, h, w) into (n, squares, c, side, side) at int64 offsets (n, squares).

    Pictures that lie channels last, and what is cut from them, are copied in whole rows.

    Examples:
        >>> picture = torch.arange(9).view(1, 1, 3, 3)
        >>> top, left = torch.tensor([[1]]), torch.tensor([[0]])
        >>> cut_squares(picture, top, left, side=2).flatten().tolist()
        [3, 4, 6, 7]
    """
    n, channels, height, width = pictures.shape
    values = pictures.permute(0, 2, 3, 1).contiguous().view(-1)
    run = side * channels
    corner = (torch.arange(n, device=pictures.device)[:, None] * height + top) * width + left
    rows = torch.arange(side, device=pictures.device) * width
    starts = (corner[:, :, None] + rows) * channels
    # A view of a run from every place there is; those that are asked for are copied.
    runs = values.as_strided((values.numel() - run + 1, run), (1, 1))
    cut = runs.index_select(0, starts.flatten())
    return cut.view(n, -1, side, side, channels).permute(0, 1, 4, 2, 3)


def _in_sight(pictures: Tensor, geometry: Geometry) -> tuple[Tensor, Geometry]:
    """Cut square pictures (n, c, s, s) to what their views see, if that is less than half.

    Returns pictures of one smaller size and the geometry of the same views of them. Pictures that
    are not square stay whole, and those on accelerators, which would have to be waited for.
    """
    canvas, theta = pictures.shape[-1], geometry.theta
    if pictures.device.type != "cpu" or pictures.shape[-2] != canvas:
        return pictures, geometry
    reach, centre = theta[:, :, :2].abs().sum(2), theta[:, :, 2]
    # Sampling between pixels reads one more on either side.
    side = math.ceil(float(reach.max()) * canvas) + 2
    if 2 * side**2 > canvas**2:
        return pictures, geometry
    low = ((centre - reach + 1) * canvas - 1) / 2
    start = low.long().clamp(0, canvas - side)
    cut = cut_squares(pictures, start[:, 1:], start[:, :1], side)[:, 0]
    moved = ((centre + 1) * canvas - 2 * start) / side - 1
    seen = torch.cat([theta[:, :, :2] * (canvas / side), moved[:, :, None]], dim=2)
    return cut, Geometry(seen, geometry.flipped)


def warp_images(images: Tensor, geometry: Geometry, size: int) -> Tensor:
    """Resample uint8 or float (n, c, h, w) to float32 (n, c, size, size), bilinear.

    Outside the canvas the edge pixel is repeated.

    Examples:
        >>> left = torch.tensor([[[[0, 100], [0, 100]]]], dtype=torch.uint8)
        >>> flip = draw_geometry(1, GeometrySettings(scale=(1, 1), flip=1), torch.Generator())
        >>> warp_images(left, flip, size=2).tolist()
        [[[[100.0, 0.0], [100.0, 0.0]]]]
    """
    seen, geometry = _in_sight(images, geometry)
    grid, padding = geometry.grid(size), "border"
    if seen.device.type == "mps":  # which knows no border
        grid, padding = within_edges(grid, seen.shape[-2:]), "zeros"
    return F.grid_sample(seen.float(), grid, "bilinear", padding, align_corners=False)


def within_edges(grid: Tensor, size: Sequence[int]) -> Tensor:
    """Return places (..., 2) with those beyond the outermost pixels' middles brought to them.

    Between pixels of a picture of `size`, height and width, they show what a repeated edge does.
    """
    across, down = grid.unbind(-1)
    y, x = (1 - 1 / pixels for pixels in size)
    return torch.stack([across.clamp(-x, x), down.clamp(-y, y)], dim=-1)


def warp_masks(masks: Tensor, geometry: Geometry, size: int, mirror: Tensor) -> Tensor:
    """Resample uint8 (n, h, w) class ids to uint8 (n, size, size), nearest neighbour.

    Flipped masks trade left and right classes by the `mirror` table (uint8, 256 entries,
    `Taxonomy.mirror_table`). Outside the canvas the class is `UNKNOWN`.

    Examples:
        >>> flip = draw_geometry(1, GeometrySettings(scale=(1, 1), flip=1), torch.Generator())
        >>> trade = torch.tensor([0, 2, 1] + [0] * 253, dtype=torch.uint8)
        >>> mask = torch.tensor([[[0, 1], [0, 1]]], dtype=torch.uint8)
        >>> warp_masks(mask, flip, 2, trade).tolist()
        [[[2, 0], [2, 0]]]
    """
    seen, geometry = _in_sight(masks[:, None], geometry)
    # Shifting ids by one turns the zero padding of grid_sample into -1, which is 255 in a byte.
    shifted = seen.float().add_(1)
    sampled = F.grid_sample(shifted, geometry.grid(size), "nearest", "zeros", align_corners=False)[
        :, 0
    ]
    ids = (sampled.int() - (256 - UNKNOWN)).to(torch.uint8)
    # Looked for on the CPU: what is found on an accelerator has to be waited for.
    flipped = sent(geometry.flipped.nonzero()[:, 0], ids.device)
    there = ids.index_select(0, flipped)
    swapped = sent(mirror, ids.device).index_select(0, there.flatten().int()).view(there.shape)
    return ids.index_copy_(0, flipped, swapped)


def jitter_colour(images: Tensor, settings: ColourSettings, generator: torch.Generator) -> Tensor:
    """Return float (n, 3, h, w) in [0, 255] with brightness, contrast and colour changed.

    Examples:
        >>> none = ColourSettings(brightness=0, contrast=0, saturation=0, cast=0)
        >>> grey = torch.full((1, 3, 1, 1), 50.0)
        >>> jitter_colour(grey, none, torch.Generator()).flatten().round().tolist()
        [50.0, 50.0, 50.0]
    """
    n, device = len(images), images.device

    def factor(amount: float, channels: int = 1) -> Tensor:
        return uniform(generator, (n, channels, 1, 1), 1 - amount, 1 + amount)

    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    colour = factor(settings.brightness) * factor(settings.cast, 3)
    contrast, saturation = factor(settings.contrast), factor(settings.saturation)
    drop = rand((n, 1, 1, 1), generator) < settings.grey
    saturation = torch.where(drop, 0.0, saturation)
    # One after the other: x = colour * image; x = (x - mean) * contrast + mean; then
    # (x - grey) * saturation + grey. All are linear, so one pass over the pixels does it.
    weighted = sent(colour * weights, device)
    red, green, blue = (images[:, c : c + 1] * weighted[:, c : c + 1] for c in range(3))
    grey = red.add_(green).add_(blue)
    mean = grey.mean((2, 3), keepdim=True)
    rest = grey * sent(contrast * (1 - saturation), device) + mean * sent(1 - contrast, device)
    whole = sent(colour * contrast * saturation, device)
    return torch.addcmul(rest, images, whole).clamp_(0, 255)


def random_view(
    images: Tensor,
    geometry: GeometrySettings,
    colour: ColourSettings,
    size: int,
    generator: torch.Generator,
) -> Tensor:
    """Return one random view of each picture uint8 (n, 3, h, w), float (n, 3, size, size).

    Examples:
        >>> images = torch.zeros(2, 3, 48, 48, dtype=torch.uint8)
        >>> random_view(images, GeometrySettings(), ColourSettings(), 32, torch.Generator()).shape
        torch.Size([2, 3, 32, 32])
    """
    drawn = draw_geometry(len(images), geometry, generator).to(images.device)
    return normalise(jitter_colour(warp_images(images, drawn, size), colour, generator))


def plain_view(images: Tensor, size: int) -> Tensor:
    """Return each whole picture uint8 or float (n, 3, h, w) as a network sees it: no draw, no cut.

    Examples:
        >>> plain_view(torch.full((1, 3, 4, 4), 255.0), 2)[0, 0].tolist()
        [[1.0, 1.0], [1.0, 1.0]]
    """
    geometry = identity_geometry(len(images)).to(images.device)
    view = normalise(warp_images(images, geometry, size))
    return view.contiguous(memory_format=torch.channels_last)


def normalise(images: Tensor) -> Tensor:
    """Bring [0, 255] to zero-centred [-1, 1], the network's input range everywhere.

    Examples:
        >>> normalise(torch.tensor([0.0, 127.5, 255.0])).tolist()
        [-1.0, 0.0, 1.0]
    """
    return images / 127.5 - 1

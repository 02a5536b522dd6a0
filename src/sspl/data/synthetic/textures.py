"""Surfaces of drawn faces: clouds, cloth and what stands behind people."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Plane = NDArray[np.float32]

_SCENE: Final = 96


def clouds(rng: np.random.Generator, size: int, cells: float, octaves: int = 4) -> Plane:
    """Return float32 (size, size) of mean 0 and deviation about 1, finer octave by octave."""
    total = np.zeros((size, size), dtype=np.float32)
    for octave in range(octaves):
        side = min(size, max(2, round(cells * 2**octave)))
        grid = Image.fromarray(rng.standard_normal((side, side), dtype=np.float32))
        wide = np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))
        total += wide * np.float32(0.6**octave)
        if side == size:
            break
    scaled: Plane = (total - total.mean()) / np.float32(float(total.std()) or 1.0)
    return scaled


def loud(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw an RGB of any brightness; one in three is strongly coloured."""
    spread = 75 if rng.random() < 0.33 else 18
    return np.clip(rng.uniform(5, 245) + rng.normal(0, spread, 3), 2, 253)


def cloth(rng: np.random.Generator, size: int) -> Plane:
    """Return float32 (size, size, 3): factors of a dye, 0.3 to 1.9, as of folds and patterns."""
    factor = np.ones((size, size, 3), dtype=np.float32)
    factor += np.float32(rng.uniform(0.03, 0.3)) * clouds(rng, size, rng.uniform(2, 6))[..., None]
    kind = rng.integers(5)
    if kind < 3:
        y, x = np.mgrid[0:size, 0:size].astype(np.float32) * np.float32(2 * np.pi / size)
        turns, angle = rng.uniform(4, 22, 2), rng.uniform(0, np.pi)
        along = np.sin(turns[0] * (x * np.cos(angle) + y * np.sin(angle)))
        across = np.sin(turns[1] * (y * np.cos(angle) - x * np.sin(angle)))
        wave = (along, along + across, along * across)[kind]
        hard = np.float32(rng.choice([1.0, 8.0]))
        tint = rng.normal(0, 0.35, 3).astype(np.float32)
        factor += np.tanh(hard * wave)[..., None].astype(np.float32) * tint
    return np.clip(factor, 0.3, 1.9)


def scene(rng: np.random.Generator, near: NDArray[np.float64]) -> Image.Image:
    """Return an RGB backdrop of things at several distances.

    Args:
        near: RGB (n, 3) of skin and hair, in which a few things are coloured.
    """
    picture = Image.new("RGB", (_SCENE, _SCENE), _rgb(loud(rng)))
    for scale in (60.0, 28.0, 12.0)[int(rng.integers(3)) :]:
        draw = ImageDraw.Draw(picture)
        palette = [loud(rng) for _ in range(3)] + [near[rng.integers(len(near))]]
        for _ in range(int(rng.integers(2, 16))):
            colour = palette[rng.integers(4)] + rng.normal(0, 14, 3)
            _thing(draw, rng, scale, _rgb(colour))
        if rng.random() < 0.7:
            picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 5))))
    pixels = np.asarray(picture, dtype=np.float32)
    light = clouds(rng, _SCENE, rng.uniform(1, 12), int(rng.integers(1, 6)))[..., None]
    pixels = pixels * (1 + np.float32(rng.uniform(0, 0.3)) * light)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _rgb(colour: NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(int(c) for c in np.clip(colour, 0, 255))


def _thing(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, scale: float, colour: tuple[int, ...]
) -> None:
    """Draw a blot, a bar, a polygon or a row of signs."""
    x, y = rng.uniform(-10, _SCENE + 10, 2)
    wide, high = rng.uniform(0.2, 1.0, 2) * scale
    kind = rng.integers(4)
    if kind == 0:
        draw.ellipse((x, y, x + wide, y + high), fill=colour)
    elif kind == 1:
        end = (x + rng.normal(0, 60), y + rng.normal(0, 60))
        draw.line((x, y, *end), fill=colour, width=max(1, round(0.15 * scale)))
    elif kind == 2:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
        corners = np.stack([x + wide * np.cos(angles), y + high * np.sin(angles)], axis=1)
        draw.polygon([float(c) for c in corners.ravel()], fill=colour)
    else:
        step = max(3.0, 0.25 * high)
        for i in range(int(rng.integers(3, 8))):
            left = x + i * step
            draw.rectangle((left, y, left + rng.uniform(0.3, 0.9) * step, y + step), fill=colour)

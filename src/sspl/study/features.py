"""Frozen features of faces: a backbone's, a picture's gradients and colours, a user's network's.

An extractor maps uint8 (n, canvas, canvas, 3) to float32 (n, features).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor, nn

from sspl.data.images import Box
from sspl.data.records import FaceSet
from sspl.data.streams import stream_canvases
from sspl.data.transforms import identity_geometry, normalise, warp_images
from sspl.device import autocast
from sspl.errors import DataError, SettingsError, SsplError
from sspl.io.progress import watched
from sspl.io.user_code import load_user_code
from sspl.models.splnet import AnyAttributeNetwork
from sspl.settings import Precision
from sspl.study.probe_settings import HogSettings, NormalisedSettings, OnnxSettings, TorchSettings

Pixels = NDArray[np.uint8]
Extractor = Callable[[Pixels], NDArray[np.float32]]

BATCH: Final = 128
ENOUGH_FACES: Final = 2048
"""Training faces from which statistics without labels (BatchNorm averages, PCA) are taken."""


def extract_features(
    faces: FaceSet, box: Box, canvas: int, extract: Extractor, title: str
) -> NDArray[np.float32]:
    """Return float32 (len(faces), features), in the order of the faces."""
    bar = watched(total=len(faces), desc=title, unit="face", leave=False)
    rows = []
    for pixels in stream_canvases(faces, box, canvas, BATCH):
        rows.append(extract(pixels))
        bar.update(len(pixels))
    bar.close()
    return np.concatenate(rows)


def some_canvases(faces: FaceSet, box: Box, canvas: int) -> Iterable[Pixels]:
    """Yield batches of canvases of at most `ENOUGH_FACES` faces, spread evenly over the set."""
    count = min(len(faces), ENOUGH_FACES)
    chosen = [i * len(faces) // count for i in range(count)]
    return stream_canvases(faces.select(chosen), box, canvas, BATCH)


def network_extractor(
    network: AnyAttributeNetwork,
    plain: Iterable[Pixels],
    input_size: int,
    flip_average: bool,
    device: torch.device,
    precision: Precision,
) -> Extractor:
    """Return the extractor of what a network's attribute heads would read.

    BatchNorm's running averages are first taken anew from the faces `plain`: not every task of
    stage 1 has shown the backbone plain faces, and no method is to lose or gain by that.
    """

    def view(pixels: Pixels) -> Tensor:
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device)
        drawn = warp_images(images, identity_geometry(len(images)).to(device), input_size)
        return normalise(drawn).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def extract(pixels: Pixels) -> NDArray[np.float32]:
        picture = view(pixels)
        with autocast(device, precision):
            feature = _read_by_heads(network, picture)
            if flip_average:
                feature = (feature + _read_by_heads(network, picture.flip(3))) / 2
        found: NDArray[np.float32] = feature.float().cpu().numpy()
        return found

    renew_averages(network, (view(pixels) for pixels in plain))
    return extract


def _read_by_heads(network: AnyAttributeNetwork, picture: Tensor) -> Tensor:
    found: Tensor | Mapping[str, Tensor] = network.pooling(network.backbone(picture))
    return found if isinstance(found, Tensor) else torch.cat(list(found.values()), dim=1)


@torch.no_grad()
def renew_averages(network: AnyAttributeNetwork, views: Iterable[Tensor]) -> None:
    """Set BatchNorm's running averages to plain means over `views`; leave the network in eval."""
    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    network.train()
    for picture in views:
        if len(picture) > 1:
            _read_by_heads(network, picture)
    network.eval()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def hog_extractor(settings: HogSettings, plain: Iterable[Pixels], size: int) -> Extractor:
    """Return the extractor of gradients and colours in pictures of `size` px.

    Its PCA is fitted on the faces `plain`. Raises `SsplError` without scikit-image.
    """
    describe = _hog(settings, size)
    rows = np.concatenate([describe(pixels) for pixels in plain])
    pca = PCA(min(settings.components, *rows.shape), svd_solver="randomized", random_state=0)
    pca.fit(rows)

    def extract(pixels: Pixels) -> NDArray[np.float32]:
        found: NDArray[np.float32] = pca.transform(describe(pixels)).astype(np.float32)
        return found

    return extract


def _hog(settings: HogSettings, size: int) -> Extractor:
    try:
        from skimage.color import rgb2lab
        from skimage.feature import hog
    except ImportError:
        raise SsplError(
            "the features 'hog' need scikit-image, which is not installed; "
            "run: pip install 'sspl[study]'."
        ) from None
    grid, cell = settings.colour_grid, settings.cell

    def one(picture: NDArray[np.float32]) -> NDArray[np.float32]:
        gradients = hog(picture, settings.orientations, (cell, cell), (2, 2), channel_axis=-1)
        lab = rgb2lab(picture)
        rows = [
            part.mean((0, 1))
            for row in np.array_split(lab, grid)
            for part in np.array_split(row, grid, axis=1)
        ]
        # CIELAB counts to 100, the histograms to 1.
        return np.concatenate([gradients, *(r / 100 for r in rows)]).astype(np.float32)

    def describe(pixels: Pixels) -> NDArray[np.float32]:
        pictures = _resized(pixels, size) / 255
        return np.stack([one(picture) for picture in pictures])

    return describe


def _resized(pixels: Pixels, size: int) -> NDArray[np.float32]:
    """Return float32 (n, size, size, 3) in [0, 255], resampled as for the backbone."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    drawn = warp_images(images, identity_geometry(len(images)), size)
    found: NDArray[np.float32] = drawn.permute(0, 2, 3, 1).contiguous().numpy()
    return found


def _normalised(pixels: Pixels, size: int, settings: NormalisedSettings) -> NDArray[np.float32]:
    """Return float32 (n, size, size, 3) of uint8 (n, canvas, canvas, 3)."""
    mean, std = np.array(settings.mean, np.float32), np.array(settings.std, np.float32)
    pictures = _resized(pixels, size) / np.float32(255)
    return (pictures - mean) / std


def onnx_extractor(settings: OnnxSettings) -> Extractor:
    """Return the extractor of a user's ONNX file.

    Raises `DataError` when the file cannot be run or does not take one batch of pictures,
    `SettingsError` when its side is given nowhere, `SsplError` without onnxruntime.
    """
    # Imported here: it says what to install where onnxruntime is absent.
    from sspl.onnx.files import start_session

    if not settings.path.is_file():
        raise DataError(f"features.path: {settings.path}: no such file.")
    session = start_session(settings.path, str(settings.path))
    size = _side(settings, [i.shape for i in session.get_inputs()])
    takes = session.get_inputs()[0]

    def extract(pixels: Pixels) -> NDArray[np.float32]:
        pictures = _normalised(pixels, size, settings)
        if settings.layout == "nchw":
            pictures = pictures.transpose(0, 3, 1, 2)
        batches = [pictures[i : i + 1] for i in range(len(pictures))]
        if not isinstance(takes.shape[0], int):
            batches = [pictures]
        run = [session.run(None, {takes.name: np.ascontiguousarray(b)})[0] for b in batches]
        found: NDArray[np.float32] = np.concatenate(run).reshape(len(pixels), -1)
        return found.astype(np.float32)

    return extract


def torch_extractor(
    settings: TorchSettings, device: torch.device, precision: Precision
) -> Extractor:
    """Return the extractor of a user's torch network, in evaluation mode.

    Raises `SettingsError` when the file or the function is not there or returns no network,
    `DataError` when the network does not return one row for each picture.
    """
    make = load_user_code(settings.path, "features.path")
    network = make() if callable(make) else None
    if not isinstance(network, nn.Module):
        file, _, name = settings.path.rpartition(":")
        raise SettingsError(
            f"features.path: {file} has no function '{name}' that returns a torch.nn.Module."
        )
    network.to(device).eval()

    @torch.inference_mode()
    def extract(pixels: Pixels) -> NDArray[np.float32]:
        pictures = torch.from_numpy(_normalised(pixels, settings.size, settings)).to(device)
        with autocast(device, precision):
            rows = network(pictures.permute(0, 3, 1, 2))
        if not isinstance(rows, Tensor) or len(rows) != len(pixels):
            shape = list(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise DataError(
                f"{settings.path}: the network made {shape} of {len(pixels)} pictures; it must "
                "return a tensor with a row for each."
            )
        found: NDArray[np.float32] = rows.float().flatten(1).cpu().numpy()
        return found

    return extract


def _side(settings: OnnxSettings, shapes: list[list[Any]]) -> int:
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise DataError(
            f"{settings.path}: takes inputs of shape {shapes}, not one batch of pictures."
        )
    shape = shapes[0]
    sides = shape[2:] if settings.layout == "nchw" else shape[1:3]
    known = {s for s in sides if isinstance(s, int)} | ({settings.size} - {None})
    if len(known) != 1:
        raise SettingsError(
            f"features.size: {settings.path} takes pictures of {sides[0]} x {sides[1]} px in "
            f"layout {settings.layout}; give the size, and the layout that fits."
        )
    return int(known.pop() or 0)

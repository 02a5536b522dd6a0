"""Features of faces in a study: of a backbone, of gradients and colours, of a network from outside.

An extractor maps uint8 (n, canvas, canvas, 3) to float32 (n, features).
"""

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sspl.data.images import Box
from sspl.data.records import FaceSet
from sspl.data.streams import stream_canvases
from sspl.data.transforms import identity_geometry, plain_view, warp_images
from sspl.device import autocast
from sspl.errors import SsplError
from sspl.models.extractors import pooled_features
from sspl.models.splnet import AnyAttributeNetwork
from sspl.settings import Precision
from sspl.study.probe_settings import HogSettings

Pixels = NDArray[np.uint8]
Extractor = Callable[[Pixels], NDArray[np.float32]]

BATCH: Final = 128
ENOUGH_FACES: Final = 2048
"""Training faces from which statistics without labels (BatchNorm averages, PCA) are taken."""


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
        return plain_view(images, input_size)

    @torch.inference_mode()
    def extract(pixels: Pixels) -> NDArray[np.float32]:
        picture = view(pixels)
        with autocast(device, precision):
            feature = pooled_features(network, picture)
            if flip_average:
                feature = (feature + pooled_features(network, picture.flip(3))) / 2
        found: NDArray[np.float32] = feature.float().cpu().numpy()
        return found

    renew_averages(network, (view(pixels) for pixels in plain))
    return extract


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
            pooled_features(network, picture)
    network.eval()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def hog_extractor(settings: HogSettings, plain: Iterable[Pixels], size: int) -> Extractor:
    """Return the extractor of gradients and colours in pictures of `size` px.

    Its PCA is fitted on the faces `plain`. Raises `SsplError` without scikit-image.
    """
    from sklearn.decomposition import PCA

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
            "run in the clone of sspl: pip install '.[study]'."
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

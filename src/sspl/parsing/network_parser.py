"""The built-in parser at work: a trained network behind the common interface."""

import hashlib
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from sspl.device import keep_freed_memory, pick_device
from sspl.domain.taxonomy import Taxonomy
from sspl.parsing.model import ParserModel
from sspl.parsing.network import resize
from sspl.parsing.parser import Ids, Pixels
from sspl.parsing.training import STRIDE, mirror_ids, parse
from sspl.settings import Precision


def network_size(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """Return height and width, multiples of 32, for a picture of (width, height).

    The short side becomes about `short_side` px; the aspect is kept to within the rounding.
    """
    scale = short_side / min(size)
    width, height = (max(STRIDE, math.ceil(s * scale / STRIDE - 0.5) * STRIDE) for s in size)
    return height, width


class NetworkParser:
    """A trained parser network.

    Args:
        model: what `load_parser` returns.
        short_side: px that the network sees of a picture's shorter side; the training size
            when None.
        average: average over the mirrored picture and two sizes (`parse`).
    """

    def __init__(
        self,
        model: ParserModel,
        short_side: int | None = None,
        average: bool = True,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> None:
        keep_freed_memory()
        self._device = pick_device(device)
        self._network = model.network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mirror = mirror_ids(model.taxonomy) if average else None
        self._precision: Precision = precision
        self._short_side = short_side or model.size
        self._model = model

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes that the network was trained on."""
        return self._model.taxonomy

    @property
    def canvas(self) -> int:
        """Side of the square that the network was trained on."""
        return self._model.size

    def fingerprint(self) -> str:
        """Return a digest of the weights."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._network.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    def looks_at(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width that the network sees of a picture of (width, height)."""
        return network_size(size, self._short_side)

    def parse(self, pictures: Sequence[Pixels]) -> list[Ids]:
        """Return class ids (h, w) for each uint8 (h, w, 3) RGB picture."""
        scaled = []
        for pixels in pictures:
            height, width = pixels.shape[:2]
            image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
            size = self.looks_at((width, height))
            scaled.append(F.interpolate(image, size, mode="bilinear", antialias=True))
        logits = parse(
            self._network, torch.cat(scaled), self._device, self._precision, self._mirror
        )
        return [
            resize(one[None], pixels.shape[:2])[0].argmax(0).to(torch.uint8).cpu().numpy()
            for one, pixels in zip(logits, pictures, strict=True)
        ]

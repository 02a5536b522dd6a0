"""From canvases to probabilities, whatever file a model comes from."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sspl.data.framing import Size, size_by_box
from sspl.data.images import Box
from sspl.device import keep_freed_memory, pick_device
from sspl.errors import SettingsError
from sspl.models.bundle import AttributeModel, load_model
from sspl.models.decisions import Decisions
from sspl.models.scoring import logits_of
from sspl.onnx import ONNX_SUFFIX
from sspl.settings import Precision

if TYPE_CHECKING:
    from sspl.inference.portable import PortableModel


class Scorer(Protocol):
    """A model, ready to run.

    Attributes:
        attributes: names in output order.
        decisions: what the model decides by.
        box: part of each picture that is used, as fractions.
        canvas: side in px of the square that `probabilities` takes.
        pictures: width and height in px of the pictures learnt from, where that is known.
    """

    @property
    def attributes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def decisions(self) -> Decisions: ...  # noqa: D102
    @property
    def box(self) -> Box: ...  # noqa: D102
    @property
    def canvas(self) -> int: ...  # noqa: D102
    @property
    def pictures(self) -> Size | None: ...  # noqa: D102

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Map uint8 (n, canvas, canvas, 3) to calibrated probabilities float64 (n, attributes)."""
        ...


@dataclass(frozen=True)
class TorchScorer:
    """A model in torch; its network is on the device, channels last."""

    model: AttributeModel
    device: torch.device
    precision: Precision

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names in output order."""
        return self.model.schema.names

    @property
    def decisions(self) -> Decisions:
        """What the model decides by."""
        return self.model.decisions

    @property
    def box(self) -> Box:
        """Part of each picture that is used."""
        return self.model.box

    @property
    def canvas(self) -> int:
        """Side in px."""
        return self.model.canvas

    @property
    def pictures(self) -> Size | None:
        """Width and height in px of the pictures learnt from."""
        return self.model.pictures or size_by_box(self.box)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Map uint8 (n, canvas, canvas, 3) to calibrated probabilities float64 (n, attributes)."""
        model = self.model
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(self.device)
        logits = logits_of(
            model.network, pixels, model.input_size, model.flip_average, self.precision
        )
        return model.probabilities(logits.cpu().numpy())


@dataclass(frozen=True)
class PortableScorer:
    """A model in an ONNX file."""

    portable: "PortableModel"

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names in output order."""
        return tuple(self.portable.metadata.attributes)

    @property
    def decisions(self) -> Decisions:
        """What the model decides by."""
        metadata = self.portable.metadata
        thresholds = dict(zip(metadata.attributes, metadata.thresholds, strict=True))
        return Decisions(thresholds=thresholds, unsure=metadata.unsure)

    @property
    def box(self) -> Box:
        """Part of each picture that is used."""
        return self.portable.metadata.box

    @property
    def canvas(self) -> int:
        """Side in px."""
        return self.portable.metadata.canvas

    @property
    def pictures(self) -> Size | None:
        """Width and height in px of the pictures learnt from."""
        return self.portable.metadata.pictures or size_by_box(self.box)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Map uint8 (n, canvas, canvas, 3) to calibrated probabilities float64 (n, attributes)."""
        return self.portable.probabilities(images).astype(np.float64)


def load_scorer(path: Path, device: str = "auto", precision: Precision = "auto") -> Scorer:
    """Read a model from a run folder, a model folder, a file of weights or an ONNX file.

    Raises `DataError` when there is none or a damaged one, `SettingsError` for a device that is
    not there or that an ONNX file cannot use.
    """
    if path.suffix == ONNX_SUFFIX:
        if device not in ("auto", "cpu"):
            raise SettingsError(f"device: an ONNX file runs on the CPU here, not on '{device}'.")
        from sspl.inference.portable import load_portable

        return PortableScorer(load_portable(path))
    keep_freed_memory()
    model, chosen = load_model(path), pick_device(device)
    model.network.to(chosen, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TorchScorer(model, chosen, precision)

"""Networks that give features of faces: of either stage, or of the user's own."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from sspl.data.images import Box
from sspl.domain.attributes import schema_for
from sspl.errors import DataError, SettingsError
from sspl.io.run_files import PRETRAINED_FILE
from sspl.io.user_code import load_user_code
from sspl.io.weights import load_tensors, read_tensors
from sspl.models.attributes import AttributeNetwork
from sspl.models.bundle import AttributeModel, load_model
from sspl.models.extractor_settings import PixelSettings
from sspl.models.extractors import Extractor, RunExtractor, read_graph
from sspl.models.frozen import with_backbone
from sspl.models.model_metadata import MODEL_FILE
from sspl.models.network_settings import BackboneSettings, HeadSettings, SegmentationSettings
from sspl.models.splnet import AnyAttributeNetwork, BranchAttributeNetwork
from sspl.settings import build
from sspl.training.feature_settings import OnnxSettings, RunSettings, TorchSettings
from sspl.training.inheriting import read_start
from sspl.training.transfer import transfer
from sspl.weights import resolved


@dataclass(frozen=True)
class FeatureSource:
    """A network that gives features, and opinions when it was fine-tuned.

    Args:
        network: in evaluation mode; its heads mean something with `model` alone.
        box: part of each picture that it was trained on, None where that is not known.
        canvas, input_size: sides in px.
        model: the fine-tuned model; None after stage 1.
    """

    network: AnyAttributeNetwork
    box: Box | None
    canvas: int
    input_size: int
    model: AttributeModel | None

    @property
    def attributes(self) -> tuple[str, ...]:
        """Attributes that it has an opinion on."""
        return self.model.schema.names if self.model else ()


def load_source(path: Path) -> FeatureSource:
    """Open a run of stage 1, a fine-tuned run or model, or the weights in the package.

    After stage 1 faces are pooled as stage 2 would do it: by semantic region where PST was
    among the tasks, by branch for `splnet`, else over all places.

    Raises `DataError` when there is neither in `path`, or a model without a backbone alone.
    """
    path = resolved(path)
    if path.is_dir() and not (path / MODEL_FILE).exists():
        if (path / PRETRAINED_FILE).exists():
            return _pretrained(path / PRETRAINED_FILE)
        raise DataError(
            f"{path}: holds neither {PRETRAINED_FILE} nor {MODEL_FILE}; give the folder of a "
            "finished 'sspl pretrain' or 'sspl finetune'."
        )
    if path.is_file() and (read_tensors(path)[1] or {}).get("kind") == "pretrained":
        return _pretrained(path)
    model = load_model(path)
    network = with_backbone(model.network, str(path))
    return FeatureSource(network, model.box, model.canvas, model.input_size, model)


def _pretrained(file: Path) -> FeatureSource:
    metadata = load_tensors(file)[1]
    if metadata.get("kind") != "pretrained":
        raise DataError(f"{file}: holds no stage-1 weights but '{metadata.get('kind')}'.")
    backbone = build(BackboneSettings, metadata["backbone"])
    schema = schema_for(("none",))
    network: AnyAttributeNetwork
    if metadata.get("architecture") == "splnet":
        network = BranchAttributeNetwork(backbone, HeadSettings(), schema)
    else:
        head = HeadSettings(pooling="regions" if "pst" in metadata["tasks"] else "average")
        segmentation = build(SegmentationSettings, metadata["segmentation"])
        network = AttributeNetwork(backbone, head, 1, segmentation, tuple(metadata["classes"]))
    transfer(network, file)
    box = read_start(file).box
    return FeatureSource(
        network.eval(), box, int(metadata["canvas"]), int(metadata["input_size"]), None
    )


def open_extractor(settings: OnnxSettings | TorchSettings | RunSettings) -> Extractor:
    """Return the extractor that settings name, in evaluation mode on the CPU.

    Raises `DataError` when the file cannot be used as one, `SettingsError` when its side is given
    nowhere or the user's function is not there, `SsplError` where a package is missing.
    """
    match settings:
        case OnnxSettings():
            # Imported here: it says what to install where onnxruntime is absent.
            from sspl.onnx.files import whole_graph

            content = whole_graph(settings.path)
            name, size, layout, output = (
                settings.path.name,
                settings.size,
                settings.layout,
                settings.output,
            )
            return read_graph(content, name, _pixels(settings), size, layout, output).eval()
        case TorchSettings():
            content, name = _traced(settings), settings.path.rpartition(":")[2]
            return read_graph(content, name, _pixels(settings), settings.size, "nchw", None).eval()
        case RunSettings():
            source = load_source(settings.path)
            name = settings.path.name
            return RunExtractor.of(source.network, name, source.canvas, source.input_size)


def _pixels(settings: PixelSettings) -> PixelSettings:
    return PixelSettings(**{key: getattr(settings, key) for key in PixelSettings.model_fields})


def _traced(settings: TorchSettings) -> bytes:
    from sspl.onnx.writing import OPSET, trace_onnx

    make = load_user_code(settings.path, "features.path")
    network = make() if callable(make) else None
    if not isinstance(network, nn.Module):
        file, _, name = settings.path.rpartition(":")
        raise SettingsError(
            f"features.path: {file} has no function '{name}' that returns a torch.nn.Module."
        )
    example = torch.zeros(2, 3, settings.size, settings.size)
    with torch.inference_mode():
        rows = network.cpu().eval()(example)
    if not isinstance(rows, torch.Tensor) or len(rows) != len(example):
        shape = list(rows.shape) if isinstance(rows, torch.Tensor) else type(rows).__name__
        raise DataError(
            f"{settings.path}: the network made {shape} of {len(example)} pictures; it must "
            "return a tensor with a row for each."
        )
    proto = trace_onnx(network, example, "pictures", "features", OPSET)
    content: bytes = proto.SerializeToString()
    return content

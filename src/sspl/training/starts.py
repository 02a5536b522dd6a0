"""What a stage can start from: the files of weights that the stages leave, told apart by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ConfigDict

from sspl.data.images import Box
from sspl.errors import DataError
from sspl.io.run_files import PRETRAINED_FILE
from sspl.models.model_metadata import MODEL_FILE
from sspl.models.network_settings import Architecture, BackboneSettings, SegmentationSettings
from sspl.settings import Settings
from sspl.weights import resolved

GIVE: Final = (
    "give the folder of a finished 'sspl pretrain' or 'sspl finetune', or of a packed model, or "
    "the word builtin"
)

OTHER_FOLDERS: Final = {
    "parser.safetensors": "the folder of a face parser",
    "state.safetensors": "a run that has not come to its end (go on with it by --resume)",
    "settings.yaml": "a run that has not come to its end (go on with it by --resume)",
    "list_attr_celeba.txt": "a set of faces",
}
TORCH_FILES: Final = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
"""Endings of files that torch saves; their tensors are read, and no code in them is run."""

OTHER_FILES: Final = {
    ".onnx": "an exported model, which cannot learn any more",
    **dict.fromkeys(
        TORCH_FILES,
        "a file of torch, which says nothing of its network (give it as backbone_weights=FILE to "
        "start the backbone alone from its tensors)",
    ),
    ".tar": "a pack of faces, if anything",
    ".zip": "an archive (unpack it)",
}
OTHER_KINDS: Final = {
    "parser": "a face parser",
    "parser-state": "the checkpoint of a face parser",
    "pretrain-state": "the checkpoint of a run",
    "finetune-state": "the checkpoint of a run",
}


READY_WEIGHT: Final = "heads.weight"


class ReadyHeads(Settings):
    """Linear heads that come with weights of stage 1 (`training/ready_heads.py`).

    Args:
        names: their attributes, a row of the tensor `READY_WEIGHT` each.
        region_map: as in `HeadSettings`, of the features that they read.
    """

    names: tuple[str, ...]
    region_map: int

    def rows(self, wanted: Sequence[str]) -> dict[str, int]:
        """Return the row of each wanted attribute that has one, however it is spelled.

        Examples:
            >>> ready = ReadyHeads(names=("Bald", "Wearing_Hat"), region_map=2)
            >>> ready.rows(["wearing hat", "Male"])
            {'wearing hat': 1}
        """
        places = {_plain(name): row for row, name in enumerate(self.names)}
        return {name: places[_plain(name)] for name in wanted if _plain(name) in places}


def _plain(name: str) -> str:
    return name.casefold().replace(" ", "_")


class PretrainedMetadata(Settings):
    """What stage 2 must know of the weights of stage 1; there are more metadata in the file."""

    model_config = ConfigDict(extra="ignore")

    architecture: Architecture = "sspl"
    backbone: BackboneSettings
    segmentation: SegmentationSettings = SegmentationSettings()
    canvas: int | None = None
    input_size: int = 96
    box: Box | None = None
    tasks: tuple[str, ...] = ()
    taxonomy: str = "celebamask19"
    classes: tuple[str, ...] = ()
    heads: ReadyHeads | None = None


def weights_file(path: Path) -> Path:
    """Return the file of weights of a run or model folder, or the file that `path` is.

    The name `builtin` means the weights that come with the package.
    Raises `DataError` that says what `path` is where it has no weights to start from.
    """
    path = resolved(path)
    if path.is_dir():
        for name in (PRETRAINED_FILE, MODEL_FILE):
            if (path / name).is_file():
                return path / name
        kinds = (kind for name, kind in OTHER_FOLDERS.items() if (path / name).exists())
        what = next(kinds, None)
        raise DataError(
            f"{path}: is {what}; {GIVE}." if what else f"{path}: holds no such model file; {GIVE}."
        )
    if not path.exists():
        raise DataError(f"{path}: no such model file or folder; {GIVE}.")
    if path.suffix.lower() in OTHER_FILES:
        raise DataError(f"{path}: is {OTHER_FILES[path.suffix.lower()]}; {GIVE}.")
    return path


def not_a_start(path: Path, metadata: Any) -> DataError:
    """Return the error that says what the metadata of a file of weights make it."""
    kind = metadata.get("kind") if isinstance(metadata, dict) else None
    what = OTHER_KINDS.get(str(kind), f"'{kind}'") if kind else None
    if what is None:
        return DataError(
            f"{path}: holds weights, but no metadata of this software on them; give them as "
            f"backbone_weights={path} to start the backbone alone from them, or {GIVE}."
        )
    return DataError(f"{path}: holds no stage-1 weights but {what}; {GIVE}.")

"""`sspl export`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sspl.cli.options import DataCommand, data_without, json_option, opset_option, say
from sspl.cli.values import FileOut, at_least, folder_in

if TYPE_CHECKING:
    from sspl.data.images import Box
    from sspl.data.records import FaceSet
    from sspl.inference.portable import PortableMetadata


@click.command(cls=DataCommand)
@click.argument("run", type=folder_in)
@click.option("--out", type=FileOut(".onnx"), required=True)
@click.option("--format", "kind", type=click.Choice(["onnx"]), default="onnx", show_default=True)
@click.option("--int8", is_flag=True, help="Quantise to int8; needs --calibrate.")
@click.option("--calibrate", "spec", help="Unlabelled faces to calibrate int8 on: FORMAT:PATH.")
@click.option(
    "--calibration-faces",
    type=at_least(8),
    default=200,
    show_default=True,
    help="Most faces to calibrate on; as many others judge.",
)
@opset_option
@json_option
def export(
    run: Path,
    out: Path,
    kind: str,
    int8: bool,
    spec: str | None,
    calibration_faces: int,
    opset: int,
    as_json: bool,
) -> None:
    """Write the model of RUN as one file that runs without torch, checked against the model.

    The file takes uint8 RGB faces (n, side, side, 3) and gives probabilities; what it needs
    besides stands in its metadata and in a JSON file beside it.
    Needs pip install '.[export]' in the clone of sspl.
    """
    from sspl.errors import SettingsError
    from sspl.inference.export import export_onnx
    from sspl.io.locks import claimed
    from sspl.models.bundle import load_model

    if int8 != (spec is not None):
        raise SettingsError("--int8 and --calibrate FORMAT:PATH go together; give both or neither.")
    with claimed(out):
        model = load_model(run)
        faces = _calibration(spec, model.box) if spec else None
        metadata = export_onnx(model, out, opset, faces, calibration_faces)
    say(_summary(metadata, out), metadata.model_dump(mode="json"), as_json)


def _calibration(spec: str, box: "Box") -> "FaceSet":
    data = data_without(spec, "calibration needs no masks", "masks")
    data.require_box(box, "the model")
    return data.open()


def _summary(metadata: "PortableMetadata", out: Path) -> str:
    lines = [
        f"{out}: {len(metadata.attributes)} attributes, {metadata.numbers}, "
        f"ONNX opset {metadata.opset}, "
        f"input uint8 (n, {metadata.canvas}, {metadata.canvas}, 3)"
    ]
    if metadata.int8 is not None:
        found = metadata.int8
        lines.append(
            f"int8 against float on {found.held_out_faces:,} held-out faces "
            f"(calibrated on {found.calibration_faces:,} others): probabilities differ by "
            f"{found.mean_difference:.4f} on average and {found.largest_difference:.4f} at most; "
            f"{found.flipped_decisions:,} of {found.decisions:,} decisions flip"
        )
    return "\n".join(lines)

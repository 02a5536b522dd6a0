"""`sspl parser`: train, test and run a face parser."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sspl.cli.options import (
    DataCommand,
    closing,
    data_without,
    json_option,
    on_error_option,
    opset_option,
    overrides_of,
    resume_option,
    say,
    settings_file,
)
from sspl.cli.values import (
    FileOut,
    at_least,
    device_value,
    file_out,
    folder_in,
    folder_out,
    path_in,
)

if TYPE_CHECKING:
    from sspl.data.skipping import OnError


@click.group()
def parser() -> None:
    """Train, test and run a face parser, the teacher of PST and PCT."""


@parser.command()
@click.argument("images", type=folder_in)
@click.argument("masks", type=folder_in)
@overrides_of("parser")
@click.option("--out", type=folder_out, required=True, help="Run folder to make.")
@click.option(
    "--classes", help="Classes of the masks: a taxonomy or its file; default: as trained."
)
@click.option(
    "--split-file", type=path_in, help="CSV with the columns name and split (train, test)."
)
@click.option("--pairs", type=at_least(1), help="Use this many training pairs only.")
@settings_file
@resume_option
@json_option
def train(
    images: Path,
    masks: Path,
    overrides: tuple[str, ...],
    out: Path,
    classes: str | None,
    split_file: Path | None,
    pairs: int | None,
    settings_file: Path | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Train a parser on IMAGES and their MASKS, then test it on the held-out pairs.

    Settings follow as key=value, such as steps=2000 model.width=0.25; 'sspl settings
    parser' lists them.
    """
    from sspl.io.run_files import require_new
    from sspl.parsing.parser_settings import ParserSettings
    from sspl.settings import build, read_settings

    require_new(out, resume)

    content = read_settings(settings_file) if settings_file else {}
    if pairs is not None:
        overrides = (*overrides, f"pairs={pairs}")
    settings = build(ParserSettings, content, overrides)
    begun = time.monotonic()
    # Only now torch is loaded.
    from sspl.parsing.commands import train_and_test
    from sspl.parsing.report import parser_table

    figures = train_and_test(images, masks, classes, split_file, settings, out, resume)
    following = f"sspl parser run {out} FACES --out MASKS"
    end = closing(f"The parser is in {out}", time.monotonic() - begun, following)
    say(f"{parser_table(figures)}\n{end}", figures, as_json)


@parser.command()
@click.argument("model")
@click.argument("images", type=folder_in)
@click.argument("masks", type=folder_in)
@click.option("--classes", help="Classes of the masks: a taxonomy or its file.")
@click.option("--judge-by", help="Taxonomy to remap the predictions to before counting.")
@click.option("--split-file", type=path_in, help="CSV with the columns name and split.")
@click.option("--only", help="Use only pairs whose name starts so.")
@click.option("--out", type=file_out, help="Also write the figures to this JSON file.")
@json_option
def test(
    model: str,
    images: Path,
    masks: Path,
    classes: str | None,
    judge_by: str | None,
    split_file: Path | None,
    only: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Test MODEL on the held-out pairs of IMAGES and MASKS, by its classes or coarser ones.

    MODEL is a run folder, a .onnx file with a .yaml beside it, or the word landmarks.
    """
    from sspl.parsing.commands import test_on
    from sspl.parsing.report import parser_table

    figures = test_on(model, images, masks, classes, judge_by, split_file, only or "", out)
    say(parser_table(figures), figures, as_json)


@parser.command(cls=DataCommand)
@click.argument("model")
@click.argument("images")
@click.option("--out", type=folder_out, required=True, help="Folder for the masks.")
@click.option("--short-side", type=click.IntRange(32, 2048), help="Px fed to the network.")
@click.option(
    "--average/--no-average",
    default=None,
    help="Average over the mirrored picture and two sizes (default): better masks, 3 times slower.",
)
@click.option("--batch-size", type=at_least(1), default=16, show_default=True)
@click.option("--device", type=device_value, default="auto", show_default=True)
@click.option(
    "--processes",
    type=at_least(1),
    default=1,
    show_default=True,
    help="Share the pictures out to so many processes, and they the GPUs that auto finds.",
)
@on_error_option
@json_option
def run(
    model: str,
    images: str,
    out: Path,
    short_side: int | None,
    average: bool | None,
    batch_size: int,
    device: str,
    processes: int,
    on_error: "OnError",
    as_json: bool,
) -> None:
    """Make a mask for every picture of IMAGES (a folder, or FORMAT:PATH as in --data).

    MODEL is a run folder, a .onnx file with a .yaml beside it, or the word landmarks (or
    landmarks:FOLDER with the networks' files).

    Goes on where an earlier run stopped. Also writes a summary, a list of suspicious masks and
    a contact sheet of overlays.
    """
    from functools import partial

    from sspl.device import spread
    from sspl.io.locks import claimed
    from sspl.parsing.commands import open_parser
    from sspl.parsing.masks import make_masks, make_masks_side_by_side, summary_text

    begun = time.monotonic()
    with claimed(out, folder=True, deep=True):
        data = data_without(images, "a mask covers the whole picture", "crop", "masks")
        faces = data.open()
        if processes == 1:
            parser = open_parser(model, short_side, average, device)
            summary = make_masks(parser, faces, out, batch_size, on_error)
        else:
            open_on = partial(open_parser, model, short_side, average)
            devices = spread(device, processes)
            summary = make_masks_side_by_side(open_on, devices, faces, out, batch_size, on_error)
    spec = images if images.startswith(f"{data.format}:") else f"{data.format}:{images}"
    following = f"sspl pretrain --data {spec},masks={out} --out FOLDER"
    end = closing(f"The masks are in {out}", time.monotonic() - begun, following)
    text = f"{summary_text(summary, out)}\n{end}"
    say(text, summary | {"out": str(out)}, as_json)


@parser.command("export")
@click.argument("model", type=folder_in)
@click.option("--out", type=FileOut(".onnx"), required=True)
@click.option("--short-side", type=click.IntRange(32, 1024), help="Px of the square it looks at.")
@click.option(
    "--average/--no-average",
    default=True,
    show_default=True,
    help="Average over the mirrored picture, in the graph.",
)
@opset_option
@json_option
def export_command(
    model: Path, out: Path, short_side: int | None, average: bool, opset: int, as_json: bool
) -> None:
    """Write the parser of the run folder MODEL as one ONNX file, its YAML beside it.

    The file is what 'sspl parser run' and 'sspl parser test' take as a parser of your own, and runs
    without torch. Needs pip install '.[export]' in the clone of sspl.
    """
    from sspl.parsing.model import load_parser
    from sspl.parsing.parser_export import export_parser

    metadata = export_parser(load_parser(model), out, short_side, average, opset)
    height, width = metadata.input_size
    text = f"{out}: {len(metadata.classes)} classes, looks at {width} x {height} px; see its YAML"
    say(text, metadata.model_dump(mode="json") | {"out": str(out)}, as_json)

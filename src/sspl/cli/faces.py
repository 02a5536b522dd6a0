"""`sspl faces`: from photographs to aligned crops."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sspl.cli.options import (
    detector_option,
    json_option,
    min_score_option,
    min_size_option,
    on_error_option,
    say,
)
from sspl.cli.values import folder_in, folder_out

if TYPE_CHECKING:
    from sspl.data.skipping import OnError


@click.group()
def faces() -> None:
    """Find and align faces in photographs."""


@faces.command()
@click.argument("photos", type=folder_in)
@click.option("--out", type=folder_out, required=True, help="Folder for the crops.")
@detector_option
@min_score_option
@min_size_option
@click.option("--all/--largest", "every", default=True, help="Faces of a photograph to crop.")
@click.option(
    "--tiles",
    is_flag=True,
    help="Look again at overlapping tiles of large photographs, for faces small in them; slower.",
)
@click.option(
    "--height",
    type=click.IntRange(32, 2048),
    default=218,
    show_default=True,
    help="Height of a crop in px; the width follows (178 of 218).",
)
@click.option(
    "--format", "crop_format", type=click.Choice(["jpg", "png"]), default="jpg", show_default=True
)
@on_error_option
@json_option
def detect(
    photos: Path,
    out: Path,
    detector: str,
    min_score: float | None,
    min_size: int,
    every: bool,
    tiles: bool,
    height: int,
    crop_format: str,
    on_error: "OnError",
    as_json: bool,
) -> None:
    """Crop the faces of the photographs under PHOTOS in CelebA's frame, eyes level.

    Goes on where an earlier run stopped. Also writes faces.csv (where each face was),
    without_face.txt, and contact_sheet.pdf to look at. Needs pip install '.[faces]' in the clone
    of sspl.
    """
    from sspl.faces.photographs import DetectSettings, detect_folder
    from sspl.settings import build

    given = {
        "detector": detector,
        "min_score": min_score,
        "min_size": min_size,
        "largest": not every,
        "height": height,
        "format": crop_format,
        "tiles": tiles,
    }
    settings = build(DetectSettings, given)
    found = detect_folder(photos, out, settings, on_error)
    say(found.text(out), found.counts() | {"out": str(out)}, as_json)

"""`sspl data`: make and inspect face data."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from sspl.cli.options import DataCommand, json_option, on_error_option, say
from sspl.cli.values import (
    FileOut,
    Finite,
    at_least,
    file_in,
    file_out,
    folder_in,
    folder_out,
    seed_value,
)

if TYPE_CHECKING:
    from sspl.data.skipping import OnError


share = Finite(0, 1)


@click.group()
def data() -> None:
    """Make and inspect face data."""


@data.command()
@click.argument("out", type=folder_out)
@click.option(
    "--count", type=click.IntRange(1, 999_999), default=1000, show_default=True, help="Faces."
)
@click.option("--seed", type=seed_value, default=0, show_default=True, help="Seed of the set.")
@click.option(
    "--size",
    type=click.IntRange(32, 1024),
    default=96,
    show_default=True,
    help="Side of a picture in pixels.",
)
@click.option(
    "--style",
    type=click.Choice(["plain", "photo"]),
    default="plain",
    show_default=True,
    help="plain: clear to the eye; photo: textured and lit, to learn photographs from.",
)
@json_option
def synthetic(
    out: Path, count: int, seed: int, size: int, style: Literal["plain", "photo"], as_json: bool
) -> None:
    """Draw labelled faces with exact masks into the folder OUT.

    The folder gets CelebA's official layout: img_align_celeba, list_attr_celeba.txt,
    list_eval_partition.txt, and besides masks (19 classes) and contact_sheet.png.
    """
    from sspl.data.synthetic import write_synthetic
    from sspl.io.progress import counted

    write_synthetic(out, count, seed, size, style)
    say(f"{counted(count, 'face')} in {out}", {"faces": count, "out": str(out)}, as_json)


@data.command(cls=DataCommand)
@click.argument("spec", metavar="DATA")
@click.option("--out", type=folder_out, required=True, help="Pack to make, or to go on with.")
@click.option(
    "--canvas",
    type=click.IntRange(32, 2048),
    help="Cut faces to squares of this side; without it files are packed as they are.",
)
@click.option("--lossless", is_flag=True, help="With --canvas: no JPEG, the very same pixels.")
@click.option("--taxonomy", default="celebamask19", show_default=True, help="Classes of the masks.")
@click.option(
    "--shard-faces", type=at_least(1), default=1024, show_default=True, help="Faces a shard."
)
@on_error_option
@json_option
def pack(
    spec: str,
    out: Path,
    canvas: int | None,
    lossless: bool,
    taxonomy: str,
    shard_faces: int,
    on_error: "OnError",
    as_json: bool,
) -> None:
    """Pack many faces, their masks and labels into a few large files.

    DATA is [FORMAT:]ROOT[,key=value...], such as celeba:FOLDER,masks=FOLDER,crop=celeba; its crop
    is cut with --canvas. An interrupted pack goes on when the command is given again.
    """
    from sspl.data.data_settings import parse_data_spec
    from sspl.data.packs.write import make_pack
    from sspl.data.skipping import SKIPPED_FILE, Skipped, usable
    from sspl.domain.taxonomy import load_taxonomy
    from sspl.errors import SettingsError
    from sspl.io.locks import claimed

    settings = parse_data_spec(spec)
    if canvas is None and (settings.crop != "none" or lossless):
        raise SettingsError(
            "--canvas: give the side of the squares that faces are cut to, or leave crop and "
            "--lossless out to pack the files as they are."
        )
    lines, left_out = [], 0
    with claimed(out, folder=True):
        faces, classes = settings.open(), load_taxonomy(taxonomy)
        if on_error == "skip":
            skipped = Skipped(on_error)
            faces = usable(faces, len(classes), skipped)
            if skipped:
                listed = out.with_name(f"{out.name}-{SKIPPED_FILE}")
                skipped.write(listed)
                lines, left_out = [skipped.text(listed)], len(skipped)
        index = make_pack(
            faces, settings.box_of(faces), out, spec, canvas, lossless, classes, shard_faces
        )
    from sspl.io.progress import counted

    size = sum(shard.bytes for shard in index.shards)
    lines.append(
        f"{counted(index.faces, 'face')} in {counted(len(index.shards), 'shard')} of {out}, "
        f"{size:,} bytes"
    )
    result = {
        "faces": index.faces,
        "skipped": left_out,
        "shards": len(index.shards),
        "bytes": size,
        "out": str(out),
    }
    say("\n".join(lines), result, as_json)


@data.command("merge-masks")
@click.argument("parts", type=folder_in)
@click.option("--out", type=folder_out, required=True, help="Folder for the masks.")
@click.option(
    "--images",
    type=folder_in,
    help="Pictures whose names and sizes the masks take; faces without one are left out.",
)
@json_option
def merge_masks(parts: Path, out: Path, images: Path | None, as_json: bool) -> None:
    """Merge masks of one file a part into one PNG of 19 classes a face.

    PARTS is a folder with files such as 0/00001_skin.png and 0/00001_l_brow.png, as CelebAMask-HQ
    ships them. Masks that are there already are not made again.
    """
    from sspl.data.part_masks import merge_folder

    found = merge_folder(parts, out, images)
    say(found.text(out), asdict(found) | {"out": str(out)}, as_json)


@data.command(cls=DataCommand)
@click.argument("spec", metavar="DATA")
@click.option("--out", type=file_out, required=True, help="CSV to write, with name and split.")
@click.option(
    "--test", type=share, default=0.2, show_default=True, help="Share of the faces to test on."
)
@click.option(
    "--val", type=share, default=0.0, show_default=True, help="Share of the faces to select on."
)
@click.option("--seed", type=seed_value, default=0, show_default=True, help="Who goes where.")
@json_option
def split(spec: str, out: Path, test: float, val: float, seed: int, as_json: bool) -> None:
    """Split DATA so that nobody is in two parts, and write which face is in which.

    DATA must say who is in a picture, as MAAD-Face does. Give the file as its split_file; the rest
    of the faces is in train.
    """
    from sspl.data.data_settings import parse_data_spec
    from sspl.data.person_splits import person_splits
    from sspl.data.records import IDENTITY
    from sspl.io.files import write_csv

    faces = parse_data_spec(spec).open()
    splits = person_splits(faces, {"test": test, "val": val}, seed)
    write_csv(out, ("name", "split"), zip(faces.names, splits, strict=True))
    people: dict[str, set[str]] = {}
    for identity, part in zip(faces.groups[IDENTITY], splits, strict=True):
        people.setdefault(part, set()).add(identity)
    found = {
        name: {"faces": splits.count(name), "people": len(members)}
        for name, members in sorted(people.items())
    }
    lines = [f"{n}: {c['faces']:,} faces of {c['people']:,} people" for n, c in found.items()]
    say("\n".join([*lines, f"written to {out}"]), {"splits": found, "out": str(out)}, as_json)


@data.command(cls=DataCommand)
@click.argument("spec", metavar="DATA")
@click.option(
    "--out",
    type=FileOut(".csv", ".json"),
    required=True,
    help=".csv: labels as 'sspl label' writes them; .json: tasks for Label Studio.",
)
@click.option(
    "--prefix",
    help="With .json: what stands before the names. Default: the address of local files in the "
    "folder of pictures.",
)
@json_option
def convert(spec: str, out: Path, prefix: str | None, as_json: bool) -> None:
    """Write the labels of DATA as a CSV file, or as tasks for Label Studio.

    DATA is [FORMAT:]ROOT[,key=value...], such as csv:labels.csv,images=FOLDER, or, the other way
    round, Label Studio's export labelstudio:FILE.json,images=FOLDER.
    """
    from sspl.data.convert import local_prefix, write_label_table, write_tasks
    from sspl.data.data_settings import parse_data_spec
    from sspl.errors import SettingsError
    from sspl.io.progress import counted

    settings = parse_data_spec(spec)
    if settings.root.resolve() == out.resolve():
        raise SettingsError(f"--out {out} is what is read; choose another name.")
    faces = settings.open()
    text = f"{counted(len(faces), 'face')} in {out}"
    if out.suffix == ".csv":
        if prefix is not None:
            raise SettingsError("--prefix: it is for tasks; give --out a name that ends in .json.")
        write_label_table(out, faces)
    else:
        interface = write_tasks(out, faces, local_prefix(faces) if prefix is None else prefix)
        text += f", and the labelling interface that asks for them in {interface}"
    say(text, {"faces": len(faces), "out": str(out)}, as_json)


@data.command()
@click.argument("files", nargs=-1, required=True, type=file_in)
@click.option("--out", type=FileOut(".csv"), help="CSV file for the answers that differ.")
@json_option
def agreement(files: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Say how far two annotators or more agree, attribute by attribute.

    FILES are label files (.csv), one for each annotator, or exports of Label Studio (.json). Said
    are the share of equal answers and Cohen's kappa, with 95 % intervals.
    """
    from sspl.evaluation.agreement import (
        agreement_text,
        agreements,
        annotations,
        write_disputed,
    )

    tables = annotations(files)
    found = agreements(tables)
    result: dict[str, object] = {"agreements": [one.result() for one in found]}
    text = agreement_text(found)
    if out is not None:
        disputed = write_disputed(out, tables)
        text += f"\n\n{disputed:,} answers differ: {out}"
        result |= {"disputed": disputed, "out": str(out)}
    say(text, result, as_json)

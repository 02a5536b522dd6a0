"""`sspl data check`: what is in a set of faces."""

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sspl.cli.options import DataCommand, json_option, say
from sspl.cli.values import file_out

if TYPE_CHECKING:
    from sspl.data.data_settings import DataSettings
    from sspl.data.records import FaceSet
    from sspl.data.skipping import OnError

log = logging.getLogger(__name__)

MOST_GROUPS: Final = 30
"""Beyond so many groups of one name their number alone is said."""


@click.command(cls=DataCommand)
@click.argument("spec", metavar="DATA")
@click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    help="Also read every picture (and mask): fail at the first that cannot be used, or skip "
    "and list all of them.",
)
@click.option(
    "--out",
    type=file_out,
    help="CSV for the list of --on-error skip.",
)
@click.option(
    "--taxonomy", help="Classes of the masks; default: those of the pack, or celebamask19."
)
@json_option
def check(
    spec: str, on_error: "OnError | None", out: Path | None, taxonomy: str | None, as_json: bool
) -> None:
    """Read a set of faces and count them per split and per attribute.

    DATA is [FORMAT:]ROOT[,key=value...], such as celeba:FOLDER,masks=FOLDER. With masks, every one
    is read, and the share of each class said.
    """
    from sspl.data.data_settings import parse_data_spec
    from sspl.data.mask_shares import mask_lines
    from sspl.data.skipping import Skipped, usable
    from sspl.domain.taxonomy import UNKNOWN
    from sspl.errors import SettingsError

    if out is not None and on_error != "skip":
        raise SettingsError("--out: it is for the list of --on-error skip; give both or neither.")
    settings = parse_data_spec(spec)
    faces = settings.read()
    lines: list[str] = []
    result: dict[str, object] = {}
    if on_error is not None:
        skipped = Skipped(on_error)
        # Which classes the masks are of is said later, when they are learnt from.
        faces = usable(faces, UNKNOWN, skipped)
        if out is not None:
            skipped.write(out)
        lines = [*(reason for _, _, reason in skipped.rows)]
        lines.append(f"{len(skipped)} pictures skipped, {len(faces):,} can be used")
        result["skipped"] = [
            dict(zip(("source", "image", "reason"), row, strict=True)) for row in skipped.rows
        ]
    lines += [*_split_lines(faces), "", *_attribute_lines(faces), *_lacking_lines(faces)]
    lines += _group_lines(faces)
    if len(faces) and faces.has_masks:
        seen = _mask_summary(faces, settings, taxonomy)
        lines += ["", *mask_lines(seen)]
        result["masks"] = seen
    say("\n".join(lines), result | _face_summary(faces), as_json)


def _mask_summary(faces: "FaceSet", settings: "DataSettings", named: str | None) -> dict[str, Any]:
    """Count the masks; remarks on what hardly is as it should be go to the log, too."""
    from sspl.data.mask_shares import count_masks, mask_summary
    from sspl.data.packs.layout import read_index
    from sspl.domain.taxonomy import UNKNOWN, Taxonomy, load_taxonomy

    packed = read_index(settings.root).plan.classes if settings.format == "packed" else None
    if named is None and packed is not None:
        taxonomy = Taxonomy("the pack", packed)
    else:
        taxonomy = load_taxonomy(named or "celebamask19")
    result = mask_summary(count_masks(faces, UNKNOWN), taxonomy)
    for remark in result["remarks"]:
        log.warning("%s: %s.", faces.source, remark)
    return result


def _face_summary(faces: "FaceSet") -> dict[str, object]:
    """Return what the lines say, as JSON values."""
    from sspl.data.records import MISSING

    answers = {"positive": 1, "negative": 0, "missing": MISSING}
    return {
        "source": faces.source,
        "faces": len(faces),
        "splits": {split or "": faces.splits.count(split) for split in dict.fromkeys(faces.splits)},
        "attributes": {
            name: {word: int((faces.labels[:, i] == a).sum()) for word, a in answers.items()}
            for i, name in enumerate(faces.schema.names)
        },
        "not_read": dict(faces.not_read),
        "lacking": _lacking(faces),
        "groups": {name: dict(sorted(Counter(v).items())) for name, v in faces.groups.items()},
    }


def _split_lines(faces: "FaceSet") -> list[str]:
    from sspl.data.adapters.folder import in_words
    from sspl.data.records import SPLITS
    from sspl.io.progress import counted

    counts = {split: faces.splits.count(split) for split in (*SPLITS, None)}
    shown = [f"  {split or 'no split':<10}{count:>10,}" for split, count in counts.items() if count]
    rest = [f"  {in_words(faces.not_read)}"] if faces.not_read else []
    return [f"{counted(len(faces), 'face')} of {faces.source}", *shown, *rest]


def _attribute_lines(faces: "FaceSet") -> list[str]:
    from sspl.data.records import MISSING

    if not len(faces.schema):
        return ["no attributes"]
    width = max(len("attribute"), *(len(name) for name in faces.schema.names))
    lines = [f"{'attribute':<{width}}{'positive':>12}{'negative':>12}{'missing':>12}"]
    for i, name in enumerate(faces.schema.names):
        counts = [int((faces.labels[:, i] == value).sum()) for value in (1, 0, MISSING)]
        lines.append(f"{name:<{width}}" + "".join(f"{count:>12,}" for count in counts))
    return lines


def _lacking(faces: "FaceSet") -> dict[str, dict[str, str]]:
    """Return by split what its attributes have none of; a set without splits is one called all."""
    from sspl.metrics.attributes import lacking

    splits = [split for split in dict.fromkeys(faces.splits) if split]
    parts = {split: faces.split(split) for split in splits} or {"all": faces}
    found = {name: lacking(part.schema.names, part.labels) for name, part in parts.items()}
    return {name: missing for name, missing in found.items() if missing}


def _lacking_lines(faces: "FaceSet") -> list[str]:
    from sspl.metrics.attributes import lacking_text

    lines = []
    for split, missing in _lacking(faces).items():
        where = "faces" if split == "all" else f"faces of split {split}"
        reasons = {name: f"no {kind} among the {where}" for name, kind in missing.items()}
        lines.append(f"Warning: {lacking_text(reasons)}: nothing can be learnt or judged there.")
    return ["", *lines] if lines else []


def _group_lines(faces: "FaceSet") -> list[str]:
    lines = []
    for name, values in faces.groups.items():
        counts = sorted(Counter(values).items())
        shown = [f"{value or 'unknown'} {count:,}" for value, count in counts]
        if len(counts) > MOST_GROUPS:
            shown = [f"{len(counts):,} different ones"]
        lines += ["", f"{name}: " + ", ".join(shown)]
    return lines

"""Labels written for other software: the usual CSV file, and tasks for Label Studio."""

from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from sspl.data.adapters.label_studio import LOCAL_FILES, NAME, NO, UNSURE, YES
from sspl.data.adapters.table import IMAGE, SPLIT
from sspl.data.records import MISSING, FaceSet
from sspl.errors import SettingsError
from sspl.io.files import write_csv, write_json, write_text

_ANSWERS: Final = (NO, YES)


def write_label_table(out: Path, faces: FaceSet) -> None:
    """Write the names, splits, groups and labels of faces as CSV; an unknown label is empty."""
    splits = {SPLIT: faces.splits} if any(faces.splits) else {}
    columns = {IMAGE: faces.names, **splits, **faces.groups}
    rows = (
        [*fields, *("" if label == MISSING else int(label) for label in labels)]
        for *fields, labels in zip(*columns.values(), faces.labels, strict=True)
    )
    write_csv(out, [*columns, *faces.schema.names], rows)


def local_prefix(faces: FaceSet) -> str:
    """Return the address of local files below the folder of pictures, which is in the root of all.

    Raises `SettingsError` for pictures that are in a pack.
    """
    image, depth = faces.images[0], faces.names[0].count("/")
    if not isinstance(image, Path):
        raise SettingsError("--prefix: the pictures are in a pack; give the address of those.")
    return f"{LOCAL_FILES}{quote(image.absolute().parents[depth].name)}/"


def write_tasks(out: Path, faces: FaceSet, prefix: str) -> Path:
    """Write a task for each face, and beside it what asks for its attributes; return the latter.

    Known labels are an annotation, which Label Studio shows and lets change. The second file is
    the project's labelling interface in XML.

    Args:
        out: JSON file.
        faces: what to write.
        prefix: what stands before a name, percent-encoded, to make it an address.
    """
    write_json(out, [_task(faces, face, prefix) for face in range(len(faces))])
    config = out.with_suffix(".xml")
    write_text(config, _interface(faces.schema.names))
    return config


def _task(faces: FaceSet, face: int, prefix: str) -> dict[str, Any]:
    name, split = faces.names[face], faces.splits[face]
    data = {IMAGE: prefix + quote(name), NAME: name} | ({SPLIT: split} if split else {})
    result = [
        {
            "id": f"a{column}",
            "type": "choices",
            "from_name": attribute,
            "to_name": IMAGE,
            "value": {"choices": [_ANSWERS[label]]},
        }
        for column, (attribute, label) in enumerate(
            zip(faces.schema.names, faces.labels[face].tolist(), strict=True)
        )
        if label != MISSING
    ]
    return {"id": face + 1, "data": data, "annotations": [{"result": result}] if result else []}


def _interface(attributes: tuple[str, ...]) -> str:
    choices = "".join(f"    <Choice value={quoteattr(c)}/>\n" for c in (YES, NO, UNSURE))
    questions = "".join(
        f"  <Header value={quoteattr(name.replace('_', ' '))}/>\n"
        f'  <Choices name={quoteattr(name)} toName="{IMAGE}" choice="single" showInline="true">\n'
        f"{choices}  </Choices>\n"
        for name in attributes
    )
    return f'<View>\n  <Image name="{IMAGE}" value="${IMAGE}"/>\n{questions}</View>\n'

"""Names from anywhere pass one rule, and nothing is written outside the folder that was named."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from shared import refused, sspl
from sspl.data.adapters.source import NameBook
from sspl.data.packs.layout import INDEX_FILE, PLAN_FILE, Index, PackPlan
from sspl.data.packs.read import PackedFaces, read_pack
from sspl.data.packs.write import Encoded, make_pack, write_shard
from sspl.data.records import FaceSet
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError
from sspl.inference.drawing import annotated_path, inside
from sspl.inference.explain import attribute_files
from sspl.io import names
from sspl.io.files import write_json
from sspl.io.names import clean_name, path_below
from sspl.parsing.masks import make_masks
from sspl.parsing.parser import Parser

HOSTILE = (
    "",
    ".", "..", "/x.jpg", "//x.jpg", "../x.jpg", "a/../../x.jpg", "..\\x.jpg", "a\\..\\..\\x.jpg",
    "\\\\server\\x.jpg", "C:\\x.jpg", "c:x.jpg", "a\0.jpg", "a\n.jpg", "a\x1b[2J.jpg", "a\x85.jpg",
    "a\u2028b.jpg", "a\ud800.jpg", "nul", "sub/CON.jpg", "lpt1.tar.gz",
)  # fmt: skip
FINE = ("a.jpg", "sub/b c.jpg", "ä/ö.png", "..a.jpg", "a..b/c.jpg", "-1.jpg", "console.jpg", "a\\b")


def picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), 99, np.uint8)).save(file, "JPEG")
    return file.getvalue()


def pack_of(folder: Path, *names: str) -> Path:
    """Write a pack of faces with these names, whole and with right checksums."""
    shard = write_shard(
        folder, "faces-000000", "faces", [Encoded(n, picture(), ".jpg") for n in names]
    )
    plan = PackPlan(
        source="x",
        canvas=None,
        box=None,
        encoding="as is",
        classes=None,
        attributes={},
        groups=(),
        splits={"faces": len(names)},
        shard_faces=1024,
        fingerprint="0",
    )
    index = Index(plan=plan, faces=len(names), shards=(shard,))
    write_json(folder / INDEX_FILE, index.model_dump(mode="json"))
    return folder


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_wherever_it_comes_from(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no image name"):
        clean_name(name)
    with pytest.raises(DataError, match=r"line 3: .* is no image name"):
        NameBook(tmp_path / "labels.csv").add(name, 3)
    with pytest.raises(DataError, match="is no image name"):
        path_below(tmp_path, name)
    if name not in ("", "a\ud800.jpg"):  # which a NumPy array of texts cannot hold
        with pytest.raises(DataError, match=r"faces-000000.npz: .* is no image name"):
            read_pack(pack_of(tmp_path / "pack", name))
        with pytest.raises(DataError, match="is no image name"):
            PackedFaces(tmp_path / "pack", ["train"])[0]


@pytest.mark.parametrize("name", FINE)
def test_other_names_stay_as_they_are(name: str, tmp_path: Path) -> None:
    assert clean_name(name) == clean_name(f"./{name}") == name
    assert read_pack(pack_of(tmp_path, name)).names == (name,)


@example(".\\")
@given(st.text(st.sampled_from("a./\\:.C \0\n"), max_size=12))
def test_what_passes_leads_to_a_place_below_its_folder(raw: str) -> None:
    try:
        name = clean_name(raw)
    except ValueError:
        return
    assert clean_name(name) == name
    for path in (name, name.replace("\\", "/")):
        place = Path("/out", path)
        assert ".." not in place.parts
        assert place.parts[:2] == ("/", "out")
        assert len(place.parts) > 2


def test_two_faces_of_a_pack_may_not_share_a_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"two faces are called 'a\.jpg'"):
        read_pack(pack_of(tmp_path, "a.jpg", "b.jpg", "a.jpg"))


def test_names_that_no_reader_takes_are_not_packed(tmp_path: Path) -> None:
    names = ("a\nb.jpg",)
    faces = FaceSet(
        "faces",
        AttributeSchema((), ()),
        names,
        (tmp_path / "x",),
        (None,),
        (None,),
        np.empty((1, 0), np.int8),
    )
    with pytest.raises(DataError, match="is no image name"):
        make_pack(faces, (0, 0, 1, 1), tmp_path / "out", "x")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out" / PLAN_FILE).exists()


@pytest.mark.parametrize("names", [("{0}/x.jpg", "a.jpg"), ("../../x.jpg", "a.jpg")])
def test_a_strangers_pack_writes_nothing_outside_of_out(
    names: tuple[str, ...], tmp_path: Path, parser: Path
) -> None:
    pack = pack_of(tmp_path / "pack", *(name.format(tmp_path) for name in names))
    before = sorted(tmp_path.rglob("*"))
    sentence = refused("parser", "run", parser, f"packed:{pack}", "--out", tmp_path / "m" / "masks")
    assert "is no image name" in sentence
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parser")
    sspl("data", "synthetic", folder / "faces", "--count", 12, "--size", 64)
    images, masks = folder / "faces" / "img_align_celeba", folder / "faces" / "masks"
    few = ("steps=1", "batch_size=2", "size=64", "view=32", "model.width=0.125")
    sspl("parser", "train", images, masks, "--out", folder / "parser", *few)
    return folder / "parser"


class Blank:
    """A parser that sees background alone."""

    from sspl.domain.taxonomy import built_in_taxonomy

    taxonomy = built_in_taxonomy("celebamask19")
    canvas = 32

    def fingerprint(self) -> str:
        return "blank"

    def looks_at(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def parse(self, pictures: list[np.ndarray]) -> list[np.ndarray]:
        return [np.zeros(pixels.shape[:2], np.uint8) for pixels in pictures]


def faces_in(folder: Path, *names: str) -> FaceSet:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture())
    return FaceSet(
        str(folder),
        AttributeSchema((), ()),
        names,
        tuple(folder / n for n in names),
        (None,) * len(names),
        (None,) * len(names),
        np.empty((len(names), 0), np.int8),
    )


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("a.jpg", "a.png"), "'a.jpg' and 'a.png' would both be written"),
        (("contact_sheet.jpg",), "would be contact_sheet.png, which is written for all faces"),
    ],
)
def test_masks_that_would_be_written_over_one_another_are_refused(
    names: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    blank: Parser = Blank()
    with pytest.raises(DataError, match=sentence):
        make_masks(blank, faces_in(tmp_path / "in", *names), tmp_path / "out", 2)
    assert not (tmp_path / "out").exists()


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    for folder in (out, elsewhere):
        folder.mkdir()
    (out / "sub").symlink_to(elsewhere)
    faces, blank = faces_in(tmp_path / "in", "sub/a.jpg"), Blank()
    with pytest.raises(DataError, match="is a link that leads out of"):
        make_masks(blank, faces, out, 2)
    assert not list(elsewhere.iterdir())
    with pytest.raises(DataError, match="is a link that leads out of"):
        annotated_path(out, "sub/a.jpg", None)
    # A folder that is reached by a link, or holds one to itself, is the user's own.
    (tmp_path / "linked").symlink_to(out)
    (out / "here").symlink_to(out)
    assert path_below(tmp_path / "linked", "here/a.jpg") == tmp_path / "linked" / "here" / "a.jpg"


def test_results_on_a_picture_stay_below_the_folder_and_apart(tmp_path: Path) -> None:
    for name in ("/etc/a.jpg", "../../etc/a.jpg", "./etc/../etc/a.jpg", "//etc/a.jpg"):
        assert inside(tmp_path, name).is_relative_to(tmp_path / "etc")
    assert inside(tmp_path, "C:a.jpg") == tmp_path / "C_a.jpg"
    names = ("a/b", "a_b", "sheet", "Segmentation", "..", "A/B")
    files = attribute_files(names)
    assert files[0] == "a_b.png"
    assert len({name.casefold() for name in (*files, "sheet.png", "segmentation.png")}) == 8


ODD_NAMES = ("con", "a/nul.jpg", "b/com1", "a.b/c-d_e.jpg", "a./b", "a..b", "a/..", "a\n")


@given(st.text(alphabet="aN0_-./\\: \u00e9\n", max_size=12) | st.sampled_from(ODD_NAMES))
def test_most_names_are_seen_at_once_to_be_clean(raw: str) -> None:
    """What is taken as it stands comes out of the whole examination unchanged."""
    try:
        found: str | None = clean_name(raw)
    except ValueError:
        found = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "_PLAIN", re.compile("(?!)"))
        try:
            examined: str | None = clean_name(raw)
        except ValueError:
            examined = None
    assert found == examined

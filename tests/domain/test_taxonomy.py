"""Semantic classes and attributes, against the method and the data sets' own lists."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sspl.domain.attributes import (
    AttributeSchema,
    attribute_fault,
    attribute_hints,
    celeba_schema,
    likeness_fault,
    load_schema,
    plain_name,
    schema_for,
)
from sspl.domain.taxonomy import (
    BUILT_IN,
    UNKNOWN,
    Taxonomy,
    built_in_taxonomy,
    load_taxonomy,
    parse_taxonomy,
    read_classes_file,
)
from sspl.errors import DataError

# docs/method.md#semantic-classes, by id.
BACKGROUND, SKIN, L_BROW, R_BROW, L_EYE, R_EYE, EYE_G, L_EAR, R_EAR, EAR_R = range(10)
NOSE, MOUTH, U_LIP, L_LIP, NECK, NECK_L, CLOTH, HAIR, HAT = range(10, 19)
METHOD_ORDER = [
    "background",
    "skin",
    "l_brow",
    "r_brow",
    "l_eye",
    "r_eye",
    "eye_g",
    "l_ear",
    "r_ear",
    "ear_r",
    "nose",
    "mouth",
    "u_lip",
    "l_lip",
    "neck",
    "neck_l",
    "cloth",
    "hair",
    "hat",
]
ANNOTATION_ORDER = [
    "background",
    "skin",
    "nose",
    "eye_g",
    "l_eye",
    "r_eye",
    "l_brow",
    "r_brow",
    "l_ear",
    "r_ear",
    "mouth",
    "u_lip",
    "l_lip",
    "hair",
    "hat",
    "ear_r",
    "neck_l",
    "neck",
    "cloth",
]
CELEBA_REGIONS = {
    "whole": [0, 2, 10, 13, 18, 20, 25, 26, 31, 32, 33, 39],
    "upper": [1, 3, 4, 5, 8, 9, 11, 12, 15, 17, 23, 28, 35],
    "middle": [7, 19, 27, 29, 30, 34],
    "lower": [6, 14, 16, 21, 22, 24, 36, 37, 38],
}
CELEBA_NAMES = [
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
]


def write_classes(folder: Path, lines: list[str]) -> Path:
    path = folder / "classes.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_order_of_the_nineteen_classes() -> None:
    assert list(built_in_taxonomy("celebamask19").classes) == METHOD_ORDER
    assert built_in_taxonomy("celebamask19").background == BACKGROUND


def test_annotation_order_is_remapped_by_name(tmp_path: Path) -> None:
    lines = [f"{i} {name}" for i, name in enumerate(ANNOTATION_ORDER)]
    table = built_in_taxonomy("celebamask19").remap_table(
        read_classes_file(write_classes(tmp_path, lines))
    )
    expected = [
        BACKGROUND, SKIN, NOSE, EYE_G, L_EYE, R_EYE, L_BROW, R_BROW, L_EAR, R_EAR, MOUTH, U_LIP,
        L_LIP, HAIR, HAT, EAR_R, NECK_L, NECK, CLOTH,
    ]  # fmt: skip
    assert table.dtype == np.uint8
    assert table[:19].tolist() == expected
    assert table[19:].tolist() == [UNKNOWN] * 237


def test_remap_to_itself_keeps_every_class() -> None:
    for name in BUILT_IN:
        taxonomy = built_in_taxonomy(name)
        table = taxonomy.remap_table(taxonomy)
        assert table[: len(taxonomy)].tolist() == list(range(len(taxonomy)))
        assert set(table[len(taxonomy) :].tolist()) == {UNKNOWN}


def test_lapa_classes_and_remap() -> None:
    lapa = built_in_taxonomy("lapa11")
    assert " ".join(lapa.classes) == (
        "background skin l_brow r_brow l_eye r_eye nose u_lip mouth l_lip hair"
    )
    table = lapa.remap_table(built_in_taxonomy("celebamask19"))
    expected = {
        BACKGROUND: 0, SKIN: 1, L_BROW: 2, R_BROW: 3, L_EYE: 4, R_EYE: 5, EYE_G: 1, L_EAR: 0,
        R_EAR: 0, EAR_R: 0, NOSE: 6, MOUTH: 8, U_LIP: 7, L_LIP: 9, NECK: 0, NECK_L: 0, CLOTH: 0,
        HAIR: 10, HAT: 0,
    }  # fmt: skip
    assert dict(enumerate(table[:19].tolist())) == expected


def test_fasseg_classes_and_remap() -> None:
    fasseg = built_in_taxonomy("fasseg6")
    assert " ".join(fasseg.classes) == "background skin hair eyes nose mouth"
    table = fasseg.remap_table(built_in_taxonomy("celebamask19"))
    for source, target in (
        (L_EYE, 3),
        (R_EYE, 3),
        (L_BROW, 1),
        (R_EAR, 1),
        (NECK, 1),
        (U_LIP, 5),
        (L_LIP, 5),
        (MOUTH, 5),
        (HAIR, 2),
        (HAT, 0),
        (CLOTH, 0),
        (NOSE, 4),
    ):
        assert table[source] == target
    assert UNKNOWN not in table[:19]


def test_class_without_counterpart_is_named() -> None:
    with pytest.raises(DataError, match="class 'eyes' of fasseg6 has no counterpart"):
        built_in_taxonomy("celebamask19").remap_table(built_in_taxonomy("fasseg6"))


@pytest.mark.parametrize("name", BUILT_IN)
def test_mirror_table_undoes_itself_and_swaps_sides_alone(name: str) -> None:
    taxonomy = built_in_taxonomy(name)
    table = taxonomy.mirror_table()
    assert table.dtype == np.uint8
    assert table[table].tolist() == list(range(256))
    moved = {taxonomy.classes[i] for i in np.flatnonzero(table != np.arange(256))}
    sided = {c for c in taxonomy.classes if c in {"l_brow", "l_eye", "l_ear"}}
    assert moved == sided | {"r" + c[1:] for c in sided}
    for left in sided:
        assert table[taxonomy.index(left)] == taxonomy.index("r" + left[1:])


def test_lips_are_no_mirror_pair_in_a_classes_file(tmp_path: Path) -> None:
    lines = ["0 background", "1 u_lip", "2 l_lip", "3 l_ear", "4 r_ear"]
    table = read_classes_file(write_classes(tmp_path, lines)).mirror_table()
    assert table[:5].tolist() == [0, 1, 2, 4, 3]


def test_empty_lines_of_a_classes_file_count_for_nothing(tmp_path: Path) -> None:
    path = write_classes(tmp_path, ["", "0 background", " \t ", "  1   skin "])
    assert read_classes_file(path).classes == ("background", "skin")


def test_a_classes_file_is_called_after_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_classes(tmp_path, ["0 background", "1 skin"])
    monkeypatch.chdir(path.parent)
    assert read_classes_file(path).name == path.parent.name
    assert read_classes_file(Path(path.name)).name == path.parent.name


@pytest.mark.parametrize("name", BUILT_IN)
def test_regions_part_the_classes(name: str) -> None:
    taxonomy = built_in_taxonomy(name)
    listed = [c for region in taxonomy.regions.values() for c in region]
    assert sorted(listed) == sorted(taxonomy.classes)
    assert list(taxonomy.regions) == ["whole", "upper", "middle", "lower"]


def test_regions_of_the_nineteen_classes() -> None:
    regions = built_in_taxonomy("celebamask19").regions
    assert {r: set(c) for r, c in regions.items()} == {
        "whole": {"background", "skin"},
        "upper": {"l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "hair", "hat"},
        "middle": {"l_ear", "r_ear", "ear_r", "nose"},
        "lower": {"mouth", "u_lip", "l_lip", "neck", "neck_l", "cloth"},
    }


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        (["0 background", "2 skin"], 2),
        (["0 background", "", "1 skin 2 hair"], 3),
        (["0 background", "1 2 skin"], 2),
        (["background"], 1),
        (["0 background", "1 skin", "one nose"], 3),
    ],
)
def test_bad_line_of_a_classes_file_is_named(tmp_path: Path, lines: list[str], number: int) -> None:
    path = write_classes(tmp_path, lines)
    with pytest.raises(DataError, match=f"line {number}: expected") as caught:
        load_taxonomy(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"classes": ("background", "skin", "skin")}, "listed twice"),
        ({"classes": ("skin", "nose")}, "no class 'background'"),
        ({"classes": ("background",)}, "needs 2 to 255"),
        ({"mirror": (("l_ear", "r_ear"),)}, "no class 'l_ear'"),
        ({"regions": {"top": ("skin",)}}, "unknown region 'top'"),
        ({"regions": {"upper": ("hair",)}}, "no class 'hair'"),
        ({"sources": {"lapa11": {"hair": "wig"}}}, "no class 'wig'"),
    ],
)
def test_taxonomies_that_contradict_themselves_are_refused(
    changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        Taxonomy(**({"name": "mine", "classes": ("background", "skin")} | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("spell", [str.title, str.upper])
def test_case_does_not_count_where_a_class_is_looked_for(
    tmp_path: Path, spell: Callable[[str], str]
) -> None:
    known = built_in_taxonomy("celebamask19")
    lines = [f"{i} {spell(name)}" for i, name in enumerate(known.classes)]
    mine = load_taxonomy(str(write_classes(tmp_path, lines)))
    assert (mine.background, mine.index("skin")) == (0, 1)
    assert known.remap_table(mine)[:19].tolist() == list(range(19))
    coarse = Taxonomy(
        "coarse",
        (spell("background"), "Face"),
        regions={"lower": ("face",)},
        sources={"wide": {"HAIR": "face"}},
    )
    assert coarse.group("lower") == (1,)
    assert coarse.remap_table(Taxonomy("wide", ("background", "hair"))).tolist()[:2] == [0, 1]


def test_classes_that_differ_by_case_are_told_apart() -> None:
    both = Taxonomy("both", ("background", "hair", "Hair"))
    assert (both.index("hair"), both.index("Hair")) == (1, 2)
    with pytest.raises(DataError, match="no class 'HAIR'"):
        both.index("HAIR")
    with pytest.raises(DataError, match="class 'Hair' is listed twice under regions"):
        Taxonomy("m", ("background", "Hair"), regions={"upper": ("hair",), "lower": ("Hair",)})


def numbered(classes: int) -> Taxonomy:
    return Taxonomy("mine", ("background", *(f"c{i}" for i in range(1, classes))))


def test_a_byte_without_255_holds_the_class_ids() -> None:
    assert (len(numbered(2)), len(numbered(255))) == (2, 255)
    with pytest.raises(DataError, match="needs 2 to 255 classes"):
        numbered(256)


def test_class_of_two_regions_is_refused() -> None:
    with pytest.raises(DataError, match="class 'skin' is listed twice under regions"):
        Taxonomy("mine", ("background", "skin"), regions={"upper": ("skin",), "lower": ("skin",)})


def test_class_without_a_region_is_of_the_whole_face() -> None:
    taxonomy = Taxonomy("mine", ("background", "hair", "skin"), regions={"upper": ("hair",)})
    groups = {region: taxonomy.group(region) for region in ("whole", "upper", "lower")}
    assert groups == {"whole": (0, 2), "upper": (1,), "lower": ()}


def test_unknown_taxonomy_names_those_built_in() -> None:
    with pytest.raises(DataError, match="celebamask19, lapa11, fasseg6"):
        load_taxonomy("celebamask18")


def test_taxonomy_from_yaml_with_remap_rules(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nclasses: [background, face, eyes]\n"
        "from: {fasseg6: {skin: face, hair: background, nose: face, mouth: face}}\n"
    )
    table = load_taxonomy(str(path)).remap_table(built_in_taxonomy("fasseg6"))
    assert table[:6].tolist() == [0, 1, 0, 2, 1, 1]


def test_unknown_key_of_a_taxonomy_file_is_refused() -> None:
    with pytest.raises(DataError, match="a taxonomy file has the keys"):
        parse_taxonomy({"name": "a", "classes": ["background", "b"], "mirrors": []}, "a.yaml")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"classes": 5}, "'classes' has another form than [background, skin, ...]."),
        ({"mirror": [["b"]]}, "'mirror' has another form than [[l_eye, r_eye], ...]."),
        ({"mirror": ["ab"]}, "'mirror' has another form than [[l_eye, r_eye], ...]."),
        ({"mirror": {"b": "b"}}, "'mirror' has another form than [[l_eye, r_eye], ...]."),
        ({"regions": ["b"]}, "'regions' has another form than {upper: [hair, ...], ...}."),
        ({"regions": {"upper": "b"}}, "'regions' has another form than {upper: [hair, ...], ...}."),
        (
            {"from": ["b"]},
            "'from' has another form than {celebamask19: {l_eye: eyes, ...}, ...}.",
        ),
        (
            {"from": {"lapa11": ["b"]}},
            "'from' has another form than {celebamask19: {l_eye: eyes, ...}, ...}.",
        ),
    ],
)
def test_malformed_taxonomy_file_is_named(changes: dict[str, object], sentence: str) -> None:
    content = {"name": "a", "classes": ["background", "b"]} | changes
    with pytest.raises(DataError) as caught:
        parse_taxonomy(content, "mine.yaml")
    assert str(caught.value) == f"mine.yaml: {sentence}"


@pytest.mark.parametrize(
    "content", [None, [], {"name": "a"}, {"classes": ["background", "b"]}, {"name": "a", "x": 1}]
)
def test_file_of_other_keys_is_no_taxonomy(content: object) -> None:
    with pytest.raises(DataError, match=r"mine\.yaml: a taxonomy file has the keys name and"):
        parse_taxonomy(content, "mine.yaml")


def test_everything_of_a_taxonomy_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(
        "name: 7\nclasses: [background, l_eye, 3, r_eye]\nmirror: [[l_eye, r_eye]]\n"
        "regions: {upper: [l_eye, r_eye], lower: []}\nfrom: {lapa11: {hair: l_eye}}\n"
    )
    assert load_taxonomy(str(path)) == Taxonomy(
        "7",
        ("background", "l_eye", "3", "r_eye"),
        (("l_eye", "r_eye"),),
        {"upper": ("l_eye", "r_eye"), "lower": ()},
        {"lapa11": {"hair": "l_eye"}},
    )
    path.write_text("name: a\nclasses: [background, b]\nmirror:\nregions:\nfrom:\n")
    assert load_taxonomy(str(path)) == Taxonomy("a", ("background", "b"))


@pytest.mark.parametrize("load", [lambda p: load_taxonomy(str(p)), load_schema])
def test_file_that_is_no_yaml_is_named(tmp_path: Path, load: object) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: [unclosed\n")
    with pytest.raises(DataError, match=r"mine\.yaml"):
        load(path)  # type: ignore[operator]


def test_celeba_names_in_official_order() -> None:
    assert list(celeba_schema().names) == CELEBA_NAMES
    # Past the cache, for an import may have filled it.
    assert celeba_schema.__wrapped__() == celeba_schema()


def test_hints_are_of_celebas_attributes() -> None:
    hints = attribute_hints.__wrapped__()
    assert list(hints) == CELEBA_NAMES
    assert hints["Chubby"] == "cheeks and jaw; say what you compare with"


def test_celeba_regions() -> None:
    schema = celeba_schema()
    assert {r: list(schema.group(r)) for r in CELEBA_REGIONS} == CELEBA_REGIONS


def test_groups_of_equal_size_stay_apart() -> None:
    schema = AttributeSchema(("a", "b", "c", "d"), ("lower", "upper", "lower", "upper"))
    assert schema.group("upper") == (1, 3)
    assert schema.group("lower") == (0, 2)
    assert schema.group("middle") == ()


def test_schema_for_other_names_keeps_order_and_falls_back_to_whole() -> None:
    schema = schema_for(["Young", "Scar", "Big_Nose", "Bangs"])
    assert schema.names == ("Young", "Scar", "Big_Nose", "Bangs")
    assert schema.regions == ("whole", "whole", "middle", "upper")


def test_schema_file(tmp_path: Path) -> None:
    path = tmp_path / "schema.yaml"
    path.write_text("attributes:\n  Scar: lower\n  Tattoo:\n")
    assert load_schema(path) == AttributeSchema(("Scar", "Tattoo"), ("lower", "whole"))
    path.write_text("attributes: [Scar, Tattoo]\n")
    assert load_schema(path) == AttributeSchema(("Scar", "Tattoo"), ("whole", "whole"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("attributes: {Scar: chin}", "attribute 'Scar' has region 'chin'; use whole, upper"),
        ("attributes: [Scar, Scar]", "'Scar' is listed twice"),
        ("attributes: [Scar, scar]", "yaml: attributes 'Scar' and 'scar' differ by capital"),
        ("attributes: {Scar: lower, Scar.1: }", r"'Scar\.1' is what pandas calls a second 'Scar'"),
        ('attributes: [Scar, "Scar\\u200b"]', r"and 'Scar\\u200b' differ by signs that are not"),
        ("names: [Scar]", r"schema\.yaml: expected 'attributes:'"),
        ("attributes: Scar", r"schema\.yaml: expected 'attributes:'"),
        ("attributes: {}", r"schema\.yaml: expected 'attributes:'"),
    ],
)
def test_bad_schema_files_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "schema.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=reason):
        load_schema(path)


def test_missing_schema_file_and_unknown_attribute_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.yaml: no such schema file"):
        load_schema(tmp_path / "gone.yaml")
    with pytest.raises(DataError, match="unknown attribute 'Scar'"):
        celeba_schema().index("Scar")
    assert celeba_schema().index("Young") == 39


def test_name_listed_twice_is_refused() -> None:
    with pytest.raises(DataError, match="'a' is listed twice"):
        AttributeSchema(("a", "b", "a"), ("whole",) * 3)


COLUMNS = "image split source frame seconds face left top right bottom score rotation scale"


@pytest.mark.parametrize("name", [*COLUMNS.split(), "Image", "SCORE"])
def test_columns_of_result_tables_are_no_attributes(name: str) -> None:
    assert attribute_fault(("Smiling", name)) == (
        f"'{name}' cannot be the name of an attribute, for result tables have a column of that "
        "name; rename it"
    )


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        ("A A", "attribute 'A' is listed twice; give each once"),
        ("A\u2028", r"'A\u2028' cannot be the name of an attribute; use letters that are seen"),
        ("A -B", "attribute '-B' begins like a formula of a spreadsheet; rename it"),
        ("A_probability A", "attribute 'A_probability' is called as the probability of another "
         "would be; rename it"),
        ("A B_probability !C", None),
    ],
)  # fmt: skip
def test_fault_of_attribute_names(names: str, fault: str | None) -> None:
    assert attribute_fault(names.split(" ")) == fault


@pytest.mark.parametrize("name", ["", " ", "\t"])
def test_name_of_nothing_is_no_attribute(name: str) -> None:
    assert attribute_fault(("A", name)) == (
        f"{name!r} cannot be the name of an attribute; use letters that are seen"
    )


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ("A B", "A  B", "signs that are not seen"),
        ("A B", " A B", "signs that are not seen"),
        ("A B", "a b", "capital and small letters"),
        ("A B", "a  b", "capital and small letters"),
    ],
)
def test_names_that_look_alike(first: str, second: str, what: str) -> None:
    assert likeness_fault(("C", first, second)) == (
        f"attributes {first!r} and {second!r} differ by {what} alone; rename one"
    )


def test_a_plain_name_is_as_it_looks() -> None:
    assert plain_name("\u3000Big\u00a0Nose\u200b \ufeff") == "Big Nose"
    # Joiners are part of how some scripts are written.
    assert plain_name("a\u200cb") == "a\u200cb"
    assert likeness_fault(("ab", "a\u200cb")) is not None
    assert likeness_fault(("a!b", "a\u200cb")) is None


def test_names_that_do_not_look_alike() -> None:
    assert likeness_fault(("A B", "A !B", "AB", "A.1", "AB.0")) is None

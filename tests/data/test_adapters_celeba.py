"""CelebA's official text files: labels by name, and one sentence for every fault."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import open_faces
from sspl.data.adapters.celeba import read_celeba
from sspl.data.data_settings import parse_data_spec
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError

ATTRIBUTES = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
NAMES = ["000001.jpg", "000002.jpg", "000003.jpg"]
ROWS = [f"{NAMES[0]}  1 -1", f"{NAMES[1]} -1 -1", f"{NAMES[2]} -1  1"]
SPLITS = [f"{NAMES[0]} 0", f"{NAMES[1]} 1", f"{NAMES[2]} 2"]


def write(root: Path, rows=ROWS, splits=SPLITS, names=NAMES, header="Bald Male", count=None):
    (root / "img_align_celeba").mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / "img_align_celeba" / name).touch()
    lines = [str(len(rows) if count is None else count), header, *rows]
    (root / ATTRIBUTES).write_text("\n".join(lines) + "\n")
    (root / PARTITION).write_text("".join(f"{s}\n" for s in splits))
    return root


def test_values_splits_and_paths(tmp_path):
    faces = read_celeba(write(tmp_path))
    assert faces.names == tuple(NAMES)
    assert faces.schema.names == ("Bald", "Male")
    assert faces.splits == ("train", "val", "test")
    assert faces.labels.tolist() == [[1, 0], [0, 0], [0, 1]]
    assert faces.labels.dtype == np.int8
    assert faces.images[1] == tmp_path / "img_align_celeba" / NAMES[1]
    assert set(faces.masks) == {None}


def test_identities_are_joined_by_name(tmp_path):
    write(tmp_path)
    (tmp_path / "identity_CelebA.txt").write_text(f"{NAMES[2]} 31\nother.jpg 8\n{NAMES[0]} 31\n")
    assert read_celeba(tmp_path).groups == {"identity": ("31", "", "31")}
    (tmp_path / "identity_CelebA.txt").write_text(f"{NAMES[2]} 31\n{NAMES[0]}\n")
    with pytest.raises(DataError, match=r"identity_CelebA.txt, line 2: expected an image name and"):
        read_celeba(tmp_path)


def test_celebamask_hq_opens_with_its_attributes_and_no_split(tmp_path):
    for i in range(3):
        (tmp_path / "CelebA-HQ-img" / f"{i}.jpg").parent.mkdir(exist_ok=True)
        (tmp_path / "CelebA-HQ-img" / f"{i}.jpg").touch()
        (tmp_path / "CelebAMask-HQ-mask-anno/0").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"CelebAMask-HQ-mask-anno/0/0000{i}_skin.png").touch()
    (tmp_path / "CelebA-HQ-to-CelebA-mapping.txt").write_text("idx orig_idx orig_file\n")
    rows = "0.jpg  -1 1\n1.jpg  1 1\n2.jpg  -1 -1\n"
    (tmp_path / "CelebAMask-HQ-attribute-anno.txt").write_text(f"3\nBald Male\n{rows}")
    settings = parse_data_spec(str(tmp_path))
    assert settings.format == "celeba"
    faces = settings.open()
    assert faces.names == ("0.jpg", "1.jpg", "2.jpg")
    assert faces.images[2] == tmp_path / "CelebA-HQ-img/2.jpg"
    assert faces.labels.tolist() == [[0, 1], [1, 1], [0, 0]]
    assert (set(faces.splits), faces.groups) == ({None}, {})
    partition = tmp_path / "mine.txt"
    partition.write_text("0.jpg 0\n1.jpg 1\n2.jpg 2\n")
    faces = parse_data_spec(f"celeba:{tmp_path},split_file={partition}").open()
    assert faces.splits == ("train", "val", "test")
    with pytest.raises(DataError, match=r"gone\.txt: no such file"):
        parse_data_spec(f"celeba:{tmp_path},split_file={tmp_path / 'gone.txt'}").open()


def test_official_subfolders_are_found(tmp_path):
    write(tmp_path)
    for name, sub in ((ATTRIBUTES, "Anno"), (PARTITION, "Eval"), ("img_align_celeba", "Img")):
        (tmp_path / sub).mkdir()
        (tmp_path / name).rename(tmp_path / sub / name)
    assert read_celeba(tmp_path).labels.tolist() == [[1, 0], [0, 0], [0, 1]]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_shuffled_rows_keep_the_labels_of_each_name(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("celeba")
    numbers = data.draw(st.lists(st.integers(1, 999999), min_size=1, max_size=8, unique=True))
    names = [f"{n:06d}.jpg" for n in numbers]
    width = data.draw(st.integers(1, 5))
    row = st.tuples(st.lists(st.booleans(), min_size=width, max_size=width), st.integers(0, 2))
    truth = {name: data.draw(row) for name in names}
    rows = [f"{n} " + " ".join("1" if v else "-1" for v in truth[n][0]) for n in names]
    splits = [f"{n} {truth[n][1]}" for n in names]
    header = " ".join(f"A{i}" for i in range(width))
    rows, splits = data.draw(st.permutations(rows)), data.draw(st.permutations(splits))
    faces = read_celeba(write(root, rows, splits, names, header))
    assert {f.name: f.labels.tolist() for f in faces} == {
        n: [*map(int, t[0])] for n, t in truth.items()
    }
    order = ("train", "val", "test")
    assert {f.name: f.split for f in faces} == {n: order[t[1]] for n, t in truth.items()}


BAD_ROWS = [
    ({"count": 4}, r"line 1 says 4 rows, but there are 3"),
    ({"count": "many"}, r"line 1: expected the number of rows, found 'many'"),
    ({"header": "Bald Bald"}, r"line 2: column 'Bald' is there twice"),
    ({"rows": [ROWS[0], ROWS[1], f"{NAMES[2]} 1"]}, r"line 5: expected 2 values .* found 1"),
    ({"rows": [ROWS[0], f"{NAMES[1]} -1 0", ROWS[2]]}, r"line 4: 'Male' has value '0'; use -1, 1"),
    ({"rows": [*ROWS, ROWS[0]]}, r"line 6: image '000001.jpg' was given before, in line 3"),
    ({"rows": ["../x.jpg 1 1", *ROWS[1:]]}, r"line 3: '../x.jpg' is no image name"),
    ({"rows": []}, r"list_attr_celeba.txt"),
]


@pytest.mark.parametrize(("fault", "message"), BAD_ROWS)
def test_attribute_faults_name_file_and_line(tmp_path, fault, message):
    with pytest.raises(DataError, match=message) as caught:
        read_celeba(write(tmp_path, **fault))
    assert ATTRIBUTES in str(caught.value)
    assert str(caught.value).endswith(".")


BAD_SPLITS = [
    ([*SPLITS[:2], f"{NAMES[2]} 3"], r"partition.txt, line 3: unknown partition '3'"),
    ([*SPLITS[:2], NAMES[2]], r"partition.txt, line 3: expected an image name and 0, 1 or 2"),
    ([*SPLITS, SPLITS[1]], r"partition.txt, line 4: image '000002.jpg' .* in line 2"),
    (
        SPLITS[:1],
        r"2 images of .*attr_celeba.txt are not in .*partition.txt, .*'000002.jpg' \(line 4\)",
    ),
    (
        [*SPLITS, "000009.jpg 0"],
        r"1 images of .*partition.txt are not in .*'000009.jpg' \(line 4\)",
    ),
    ([], r"partition.txt: the file is empty"),
]


@pytest.mark.parametrize(("splits", "message"), BAD_SPLITS)
def test_partition_faults_name_file_and_line(tmp_path, splits, message):
    with pytest.raises(DataError, match=message):
        read_celeba(write(tmp_path, splits=splits))


def test_an_absent_label_file_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / PARTITION).unlink()
    with pytest.raises(DataError, match=r"list_eval_partition.txt: no such file"):
        read_celeba(tmp_path)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_undecodable_bytes_name_the_line(tmp_path, end):
    write(tmp_path)
    lines = (tmp_path / ATTRIBUTES).read_bytes().splitlines()
    lines[3] = b"\xff" + lines[3]
    (tmp_path / ATTRIBUTES).write_bytes(end.join(lines))
    with pytest.raises(DataError, match=r"line 4: not UTF-8"):
        read_celeba(tmp_path)


def test_missing_images_fail_with_count_and_line(tmp_path):
    write(tmp_path, names=NAMES[:1])
    with pytest.raises(DataError, match=r"^2 of 3 images .*'000002.jpg' \(line 4\)"):
        read_celeba(tmp_path)


def test_missing_images_are_skipped_on_request_and_counted(tmp_path, caplog):
    write(tmp_path, names=[NAMES[0], NAMES[2]])
    faces = open_faces("celeba", tmp_path, on_missing="skip")
    assert faces.names == (NAMES[0], NAMES[2])
    assert faces.labels.tolist() == [[1, 0], [0, 1]]
    assert faces.splits == ("train", "test")
    assert "1 of 3 images" in caplog.text


def test_skipping_never_leaves_an_empty_set(tmp_path):
    write(tmp_path, names=[])
    with pytest.raises(DataError, match=r"^3 of 3 images"):
        read_celeba(tmp_path, missing="skip")


def test_a_folder_or_dead_link_is_no_image(tmp_path):
    write(tmp_path, names=NAMES[:1])
    (tmp_path / "img_align_celeba" / NAMES[1]).mkdir()
    (tmp_path / "img_align_celeba" / NAMES[2]).symlink_to(NAMES[2])
    with pytest.raises(DataError, match=r"^2 of 3 images"):
        read_celeba(tmp_path)


def test_a_schema_orders_the_labels_and_fills_what_the_file_has_not(tmp_path):
    schema = AttributeSchema(("Male", "Young", "Bald"), ("whole", "whole", "upper"))
    faces = read_celeba(write(tmp_path), schema=schema)
    assert faces.schema is schema
    assert faces.labels.tolist() == [[0, -1, 1], [0, -1, 0], [1, -1, 0]]


def test_an_attribute_unknown_to_the_schema_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"unknown attribute 'Bald'; the schema has Male"):
        read_celeba(write(tmp_path), schema=AttributeSchema(("Male",), ("whole",)))


@pytest.mark.real
def test_real_celeba(real_data):
    faces = open_faces("celeba", real_data / "celeba10k")
    assert len(faces) == 8529
    assert [faces.splits.count(s) for s in ("train", "val", "test")] == [5495, 1018, 2016]
    bald = faces.labels[:, faces.schema.index("Bald")]
    assert round(float((bald == 1).mean()), 3) == 0.025
    # 000002.jpg, the first row: smiling, no man, as the file says.
    first = dict(zip(faces.schema.names, faces[0].labels.tolist(), strict=True))
    assert (faces[0].name, first["Smiling"], first["Male"]) == ("000002.jpg", 1, 0)


def kaggle(root, key="image_id"):
    pictures = root / "img_align_celeba" / "img_align_celeba"
    pictures.mkdir(parents=True)
    for i in (1, 2, 3):
        (pictures / f"00000{i}.jpg").touch()
    rows = "000001.jpg,1,-1\n000002.jpg,-1,1\n000003.jpg,1,1\n"
    (root / "list_attr_celeba.csv").write_text(f"{key},Smiling,Male\n{rows}")
    (root / "list_eval_partition.csv").write_text(
        "image_id,partition\n000001.jpg,0\n000002.jpg,1\n000003.jpg,2\n"
    )
    (root / "list_bbox_celeba.csv").write_text("image_id,x_1,y_1,width,height\n")
    return root


def test_the_tables_of_kaggle_are_celeba(tmp_path):
    (kaggle(tmp_path) / "identity_CelebA.csv").write_text("image_id,identity\n000002.jpg,7\n")
    faces = parse_data_spec(str(tmp_path)).open()
    assert faces.schema.names == ("Smiling", "Male")
    assert faces.labels.tolist() == [[1, 0], [0, 1], [1, 1]]
    assert faces.splits == ("train", "val", "test")
    assert faces.groups == {"identity": ("", "7", "")}
    assert all(image.is_file() for image in faces.images)


def test_faults_of_kaggles_tables(tmp_path):
    kaggle(tmp_path / "a", key="Smile")
    with pytest.raises(DataError, match=r"line 1: the first column is 'Smile', not 'image_id'"):
        read_celeba(tmp_path / "a")
    table = kaggle(tmp_path / "b") / "list_attr_celeba.csv"
    table.write_text(table.read_text().replace("2.jpg,-1", "2.jpg,0"))
    with pytest.raises(DataError, match=r"csv, line 3: 'Smiling' has value '0'; use -1, 1"):
        read_celeba(tmp_path / "b")
    table.write_text("image_id,partition\n000001.jpg,1\n")
    with pytest.raises(DataError, match=r"line 1: 'partition' is no attribute"):
        read_celeba(tmp_path / "b")


def test_lists_that_spell_names_otherwise_say_so(tmp_path):
    partition = kaggle(tmp_path) / "list_eval_partition.csv"
    partition.write_text(partition.read_text().replace(".jpg", ""))
    with pytest.raises(DataError, match=r"'000001.jpg' \(line 2\); '000001' is, which differs by"):
        read_celeba(tmp_path)

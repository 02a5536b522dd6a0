"""LFWA in MATLAB files of both kinds, written here as MATLAB writes them."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from shared import open_faces
from sspl.data.adapters.lfwa import read_lfwa
from sspl.errors import DataError, SsplError

NAMES = [r"AJ_Cook\AJ_Cook_0001.jpg", r"Zoë_X\Zoë_X_0001.jpg", r"B_C\B_C_0001.jpg"]
CLEAN = ("AJ_Cook/AJ_Cook_0001.jpg", "Zoë_X/Zoë_X_0001.jpg", "B_C/B_C_0001.jpg")
ATTRIBUTES = ["5 o Clock Shadow", "Male"]
LABELS = np.array([[1, 0], [0, 0], [0, 1]], dtype=np.float64)


def cell(texts):
    array = np.empty((len(texts), 1), dtype=object)
    array[:, 0] = texts
    return array


def write_v5(path: Path, variables) -> None:
    savemat(path, {k: cell(v) if isinstance(v, list) else v for k, v in variables.items()})


def write_v73(path: Path, variables) -> None:
    """Column-major arrays, cells of references to uint16 texts, 512 bytes of header."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, value in variables.items():
            if not isinstance(value, list):
                file[key] = np.atleast_2d(value).T
                continue
            cells = file.create_dataset(key, (1, len(value)), dtype=h5py.ref_dtype)
            for i, text in enumerate(value):
                units = np.frombuffer(text.encode("utf-16-le"), dtype=np.uint16)
                cells[0, i] = file.create_dataset(f"#refs#/{key}{i}", data=units[:, None]).ref
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(512))


WRITERS = pytest.mark.parametrize("write_mat", [write_v5, write_v73])


def content(**changes):
    return {"name": NAMES, "label": LABELS, "AttrName": ATTRIBUTES, **changes}


@pytest.fixture
def root(tmp_path):
    for name in CLEAN:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    return tmp_path


@WRITERS
@pytest.mark.parametrize("label", [LABELS, LABELS.T, LABELS.astype(np.uint8)])
def test_labels_by_name(root, write_mat, label):
    write_mat(root / "lfw_att_40.mat", content(label=label))
    faces = open_faces("lfwa", root)
    assert faces.names == CLEAN
    assert faces.schema.names == ("5_o_Clock_Shadow", "Male")
    assert faces.labels.tolist() == LABELS.tolist()
    assert faces.labels.dtype == np.int8
    assert faces.images[1] == root / CLEAN[1]
    assert set(faces.splits) == {None}
    assert faces.groups == {"identity": ("AJ_Cook", "Zoë_X", "B_C")}


@WRITERS
def test_square_labels_have_a_row_for_each_face(root, write_mat):
    square = np.array([[1, 1], [0, 0]])
    write_mat(root / "lfw_att_40.mat", content(name=NAMES[:2], label=square))
    assert read_lfwa(root).labels.tolist() == square.tolist()


@WRITERS
def test_official_split_beside_the_labels_counts_from_one(root, write_mat):
    write_mat(root / "lfw_att_40.mat", content())
    indices = {"indices_img_train": np.array([3.0]), "indices_img_test": np.array([1.0])}
    write_mat(root / "indices_train_test.mat", indices)
    assert read_lfwa(root).splits == ("test", None, "train")


BAD_INDICES = [
    ([0.0], [1.0], r"'indices_img_train' holds 0; there are faces 1 to 3"),
    ([4.0], [1.0], r"'indices_img_train' holds 4; there are faces 1 to 3"),
    ([1.5], [1.0], r"'indices_img_train' holds '1.5'; use whole numbers"),
    ([2.0], [np.nan], r"'indices_img_test' holds 'nan'; use whole numbers"),
    ([1.0, 2.0], [2.0], r"face 2 is listed twice"),
]


@WRITERS
@pytest.mark.parametrize(("train", "test", "message"), BAD_INDICES)
def test_split_faults(root, write_mat, train, test, message):
    write_mat(root / "lfw_att_40.mat", content())
    indices = {"indices_img_train": np.array(train), "indices_img_test": np.array(test)}
    write_mat(root / "indices_train_test.mat", indices)
    with pytest.raises(DataError, match="indices_train_test.mat: " + message):
        read_lfwa(root)


def test_split_from_a_list(root):
    write_v5(root / "lfw_att_40.mat", content())
    split_file = root / "split.csv"
    split_file.write_text(f"name,split\n{CLEAN[2]},val\n{CLEAN[0]},train\n", encoding="utf-8")
    assert read_lfwa(root, split_file=split_file).splits == ("train", None, "val")
    split_file.write_text(f"name,split\n{CLEAN[2]},0\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"split.csv, line 2: unknown split '0'"):
        read_lfwa(root, split_file=split_file)


BAD = [
    ({"label": LABELS[:2]}, r"'label' is 2 x 2, but there are 3 names and 2 attributes"),
    ({"label": LABELS * 2}, r"entry 1: '5_o_Clock_Shadow' has value '2.0'; use 0 or 1"),
    ({"label": LABELS - [0, np.nan]}, r"entry 1: 'Male' has value 'nan'"),
    ({"name": [NAMES[0], NAMES[1], NAMES[0]]}, r"entry 3: image '.*' was given before, in entry 1"),
    ({"name": LABELS}, r"'name' is not a cell array of texts"),
    ({"AttrName": ["Male", "Male"]}, r"'AttrName': column 'Male' is there twice"),
    ({"name": [NAMES[0], " ", NAMES[2]]}, r"entry 2 of 'name' is not a text"),
    ({"name": [NAMES[0], NAMES[1], "gone.jpg"]}, r"1 of 3 images .* 'gone.jpg' \(entry 3\)"),
]


@WRITERS
@pytest.mark.parametrize(("fault", "message"), BAD)
def test_faults_name_file_and_entry(root, write_mat, fault, message):
    write_mat(root / "lfw_att_40.mat", content(**fault))
    with pytest.raises(DataError, match=message) as caught:
        read_lfwa(root)
    assert "lfw_att_40.mat" in str(caught.value)


@WRITERS
def test_a_variable_that_is_not_there_is_named(root, write_mat):
    variables = content()
    del variables["AttrName"]
    write_mat(root / "lfw_att_40.mat", variables)
    with pytest.raises(DataError, match=r"has no variable 'AttrName'; needed are name, label"):
        read_lfwa(root)


def test_files_that_are_no_matlab_files(root):
    path = root / "lfw_att_40.mat"
    write_v73(path, content())
    whole = path.read_bytes()
    for damaged in (b"", b"hello, I am a text" * 20, whole[:700]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"lfw_att_40.mat: not a readable MATLAB file"):
            read_lfwa(root)
    path.unlink()
    with pytest.raises(DataError, match=r"lfw_att_40.mat: cannot be read \(No such file"):
        read_lfwa(root)


def test_without_h5py_only_version_73_is_refused(root, monkeypatch):
    write_v5(root / "v5.mat", content())
    write_v73(root / "v73.mat", content())
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert len(read_lfwa(root / "v5.mat")) == 3
    with pytest.raises(SsplError, match=r"pip install '\.\[lfwa\]'"):
        read_lfwa(root / "v73.mat")

"""LFWA: 40 attributes of the LFW faces, in MATLAB files."""

from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np

from sspl.data.adapters.base import Adapter
from sspl.data.adapters.dialect import reject_repeats
from sspl.data.adapters.matlab import read_mat
from sspl.data.adapters.source import (
    LabelTable,
    NameBook,
    OnMissing,
    assemble,
    splits_by_name,
)
from sspl.data.records import IDENTITY, FaceSet, Labels
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError

LABELS_FILE: Final = "lfw_att_40.mat"
SPLIT_FILE: Final = "indices_train_test.mat"
_INDICES: Final = {"indices_img_train": "train", "indices_img_test": "test"}


def read_lfwa(
    mat: Path,
    images: Path | None = None,
    split_file: Path | None = None,
    *,
    schema: AttributeSchema | None = None,
    missing: OnMissing = "fail",
) -> FaceSet:
    r"""Read LFWA from MATLAB files of version 5 to 7.3 (7.3 is HDF5 and needs h5py).

    Taken as given of `lfw_att_40.mat`: a cell array `name` of image paths such as
    `AJ_Cook\AJ_Cook_0001.jpg` (backslashes become slashes), a matrix `label` of 0 and 1 with
    one row (or one column) for each name, and a cell array `AttrName` (spaces become
    underscores). Where there are as many faces as attributes, rows are taken to be faces. The
    folder of each image becomes the group `identity`.

    Args:
        mat: the file, or a folder with `lfw_att_40.mat`.
        images: folder that the names are relative to; the file's own by default.
        split_file: `indices_train_test.mat` with `indices_img_train` and `indices_img_test`,
            counted from 1, or a CSV with columns `name,split`; by default the former, where
            it lies beside the labels. The official split leaves some faces out: they and
            all faces without a split file have split None.
        schema: order of the labels; the file's own by default.
        missing: what to do with faces whose image is not there.

    Raises:
        SsplError: when a version 7.3 file is to be read and h5py is not installed.
        DataError: for any entry that does not fit, naming the file and the entry from 1.
    """
    mat = mat / LABELS_FILE if mat.is_dir() else mat
    content = read_mat(mat, ("name", "label", "AttrName"))
    attributes = tuple(a.replace(" ", "_") for a in _texts(mat, "AttrName", content["AttrName"]))
    reject_repeats(f"{mat}, 'AttrName'", attributes)
    book = NameBook(mat, "entry")
    for place, name in enumerate(_texts(mat, "name", content["name"]), 1):
        book.add(name.replace("\\", "/"), place)
    labels = _labels(mat, content["label"], book, attributes)
    splits = _splits(mat, book.names, split_file)
    people = tuple(PurePosixPath(name).parent.name for name in book.names)
    table = LabelTable(
        mat, attributes, book.names, book.places, labels, splits, "entry", {IDENTITY: people}
    )
    return assemble(table, images or mat.parent, schema, missing)


def _texts(path: Path, key: str, cells: Any) -> list[str]:
    if not isinstance(cells, list) or not cells:
        raise DataError(f"{path}: variable '{key}' is not a cell array of texts.")
    texts = [text.strip() for text in cells]
    if "" in texts:
        raise DataError(f"{path}: entry {texts.index('') + 1} of '{key}' is not a text.")
    return texts


def _labels(path: Path, label: Any, book: NameBook, attributes: tuple[str, ...]) -> Labels:
    shape = (len(book.place), len(attributes))
    array = np.asarray(label)
    if array.shape != shape:
        array = array.T
    if array.shape != shape or array.dtype.kind not in "biuf":
        raise DataError(
            f"{path}: 'label' is {' x '.join(map(str, np.shape(label)))}, but there are "
            f"{shape[0]} names and {shape[1]} attributes."
        )
    wrong = np.argwhere(~np.isin(array, (0, 1)))
    if len(wrong):
        face, attribute = wrong[0]
        raise DataError(
            f"{path}, entry {face + 1}: '{attributes[attribute]}' has value "
            f"'{array[face, attribute]}'; use 0 or 1."
        )
    return array.astype(np.int8)


def _splits(mat: Path, names: tuple[str, ...], split_file: Path | None) -> tuple[str | None, ...]:
    official = mat.parent / SPLIT_FILE
    split_file = split_file or (official if official.is_file() else None)
    if split_file is None:
        return (None,) * len(names)
    if split_file.suffix.lower() != ".mat":
        return splits_by_name(names, split_file, mat)
    splits: list[str | None] = [None] * len(names)
    for key, indices in read_mat(split_file, tuple(_INDICES)).items():
        for index in np.ravel(np.asarray(indices, dtype=object)):
            _assign(split_file, key, index, splits)
    return tuple(splits)


def _assign(path: Path, key: str, index: Any, splits: list[str | None]) -> None:
    if not isinstance(index, int | float) or not float(index).is_integer():
        raise DataError(f"{path}: '{key}' holds '{index}'; use whole numbers from 1.")
    place = int(index)
    if not 1 <= place <= len(splits):
        raise DataError(f"{path}: '{key}' holds {place}; there are faces 1 to {len(splits)}.")
    if splits[place - 1] is not None:
        raise DataError(f"{path}: face {place} is listed twice; give each face one split.")
    splits[place - 1] = _INDICES[key]


def _is_lfwa(root: Path) -> bool:
    return root.name == LABELS_FILE or (root / LABELS_FILE).is_file()


LFWA: Final = Adapter(
    name="lfwa",
    read=read_lfwa,
    options=("images", "split_file", "schema_file", "on_missing"),
    root="folder or `.mat` file",
    labels="1 / 0",
    splits="train, test by the index file, if it is there",
    layout="""\
lfwa/
  lfw_att_40.mat                  names, labels, attribute names
  indices_train_test.mat          optional; counts from 1
  AJ_Cook/AJ_Cook_0001.jpg ...    or elsewhere, with images=FOLDER
""",
    fits=_is_lfwa,
)

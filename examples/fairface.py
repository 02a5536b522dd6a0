"""FairFace as a data set of one's own (Karkkainen and Joo, WACV 2021).

    sspl data check examples/fairface.py:FAIRFACE:FOLDER

FOLDER is as published: the two lists, and the pictures in train/ and val/. Gender becomes the
attribute `Male`, which the set's annotators saw in a picture; age and race become groups, for
reports by subgroup alone. The set has no test split: evaluate with `--split val`.
"""

from pathlib import Path

import numpy as np

from sspl.data.adapters.base import Adapter
from sspl.data.adapters.dialect import read_csv
from sspl.data.adapters.source import LabelTable, NameBook, OnMissing, assemble, wrong_value
from sspl.data.records import FaceSet
from sspl.errors import DataError

LISTS = {"train": "fairface_label_train.csv", "val": "fairface_label_val.csv"}
COLUMNS = ["file", "age", "gender", "race", "service_test"]
GENDERS = {"male": 1, "female": 0}


def read_fairface(
    root: Path, images: Path | None = None, *, missing: OnMissing = "fail"
) -> FaceSet:
    """Read both lists; raise `DataError` naming file and line of what does not fit."""
    book, people, splits = NameBook(root), list[list[str]](), list[str]()
    for split, name in LISTS.items():
        rows = read_csv(root / name)
        line, header = next(rows)
        if header != COLUMNS:
            raise DataError(
                f"{root / name}, line {line}: expected the columns {','.join(COLUMNS)}, "
                f"found {','.join(header)}."
            )
        for line, row in rows:
            book.add(row[0], line)
            if row[2].lower() not in GENDERS:
                raise wrong_value(root / name, line, ["gender"], [row[2]], GENDERS, GENDERS)
            people.append(row)
            splits.append(split)
    labels = np.array([[GENDERS[row[2].lower()]] for row in people], np.int8).reshape(-1, 1)
    groups = {"age": tuple(row[1] for row in people), "race": tuple(row[3] for row in people)}
    table = LabelTable(
        root, ("Male",), book.names, book.places, labels, tuple(splits), groups=groups
    )
    return assemble(table, images or root, None, missing)


FAIRFACE = Adapter(
    name="fairface",
    read=read_fairface,
    options=("images", "on_missing"),
    labels="`Male`; age and race as groups",
    splits="train, val by its two lists",
    layout="""\
fairface/
  fairface_label_train.csv        file,age,gender,race,service_test
  fairface_label_val.csv
  train/1.jpg ... val/1.jpg ...   or elsewhere, with images=FOLDER
""",
)

"""How tables of labels are written: the same labels in every dialect, or none."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import open_faces
from sspl.data.adapters import dialect as dialects
from sspl.data.adapters.columns import no_attribute
from sspl.data.adapters.dialect import read_csv, read_lines
from sspl.data.adapters.table import read_table
from sspl.data.data_settings import parse_data_spec
from sspl.errors import DataError
from sspl.io.files import plain_cell

IMAGES = ("a.jpg", "b.jpg", "c.jpg", "d e.jpg")


def table(root, content):
    root.mkdir(exist_ok=True)
    for name in IMAGES:
        (root / name).touch()
    path = root / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, **options):
    faces = read_table(path, **options)
    return {f.name: dict(zip(faces.schema.names, f.labels.tolist(), strict=True)) for f in faces}


READ = {
    "floats with gaps": "image,A\na.jpg,1.0\nb.jpg,0.0\nc.jpg,\n",
    "NaN": "image,A\na.jpg,1.0\nb.jpg,0\nc.jpg,NaN\n",
    "None": "image,A\na.jpg,True\nb.jpg,False\nc.jpg,None\n",
    "<NA>": "image,A\na.jpg,1\nb.jpg,-0.0\nc.jpg,<NA>\n",
    "numpy.savetxt": "image,A\na.jpg,1.000000e+00\nb.jpg,0.000000e+00\nc.jpg,nan\n",
    "index": ",image,A\n7,a.jpg,1\n1,b.jpg,0\n0,c.jpg,\n",
    "index read and written again": "Unnamed: 0.1,Unnamed: 0,image,A\n0,0,a.jpg,1\n1,1,b.jpg,0\n"
    "2,2,c.jpg,\n",
    "sep line": "sep=,\r\nimage,A\r\na.jpg,1\r\nb.jpg,0\r\nc.jpg,\r\n",
    "sep line saved again": '"sep=;",\nimage;A\na.jpg;1\nb.jpg;0\nc.jpg;\n',
    "semicolons": "image;A\na.jpg;1\nb.jpg;0\nc.jpg;\n",
    "decimal commas": "image;A\na.jpg;1,0\nb.jpg;0,0\nc.jpg;\n",
    "tabs": "image\tA\na.jpg\t1\nb.jpg\t0\nc.jpg\t\n",
    "bars": "image|A\na.jpg|1\nb.jpg|0\nc.jpg|\n",
    "trailing commas": "image,A,,\na.jpg,1,,\nb.jpg,0,,\nc.jpg,,,\n",
    "trailing in the header": "image,A,\na.jpg,1\nb.jpg,0\nc.jpg,\n",
    "trailing in rows": "image,A\na.jpg,1,\nb.jpg,0,\nc.jpg,,\n",
    "blank rows and lines": ",,\n\nimage,A\n,,\na.jpg,1\n\nb.jpg,0\nc.jpg,\n",
    "old Mac": "image,A\ra.jpg,1\rb.jpg,0\rc.jpg,\r",
    "Unicode text": "image\tA\r\na.jpg\t1\r\nb.jpg\t0\r\nc.jpg\t\r\n".encode("utf-16"),
    "quotes": '"image","A"\n"a.jpg","1"\n"b.jpg","0"\n"c.jpg",""\n',
}


@pytest.mark.parametrize("dialect", READ)
def test_each_dialect_reads_the_same(tmp_path, dialect):
    labels = {"a.jpg": {"A": 1}, "b.jpg": {"A": 0}, "c.jpg": {"A": -1}}
    assert read(table(tmp_path, READ[dialect])) == labels


REFUSED = {
    "image,A\na.jpg,0.5\n": r"line 2: 'A' has value '0.5'",
    "image,A\na.jpg,10\n": r"line 2: 'A' has value '10'",
    'image,A\na.jpg,"1,0"\n': r"line 2: 'A' has value '1,0'",
    "image,A\na.jpg,-2.0\n": r"line 2: 'A' has value '-2.0'",
    ",A\na.jpg,1\n": r"line 1: no column 'image'; column 1 has no name; if it names the images",
    "image,A,\na.jpg,1,x\n": r"line 2: column 3 has no name, but 'x' stands in it",
    "image,A,Unnamed: 2\na.jpg,1,0\n": r"line 2: column 3 has no name, but '0' stands in it",
    "image,A\na.jpg,,1\n": r"line 2: expected 2 fields .* found 3",
    "image,A,,\na.jpg\n": r"line 2: expected 2 fields .* found 1",
    "image,A\n1,a.jpg,1\n": r"line 2: expected 2 fields .* found 3",
    "sep=:\nimage:A\na.jpg:1\n": r"line 2: the line above says that ':' separates fields",
    "sep=,\nimage;A\na.jpg;1\n": r"line 2: the line above says .* header has semicolons",
    "image,a;image\na.jpg,1\n": r"line 1: fields may be separated by commas or semicolons",
    "img;a\tb\na.jpg;1\n": r"line 1: fields may be separated by semicolons or tabs",
    '"image,A"\n"a.jpg,1"\n': r"line 1: no column 'image'; nothing separates fields in 'image,A'",
    "image A\na.jpg 1\n": r"line 1: no column 'image'; nothing separates fields in 'image A'",
    "image_id,A\na.jpg,1\n": r"if 'image_id' names the images, call it 'image'",
    b"PK\x03\x04rest": r"labels.csv: is an Excel workbook",
    b"\xd0\xcf\x11\xe0rest": r"labels.csv: is an Excel workbook",
    b"PAR1rest": r"labels.csv: is a Parquet file",
    "image,A\na.jpg,1\n".encode("utf-16-le"): r"perhaps UTF-16 without a byte order mark",
    "image,A\na.jpg,1\n".encode("utf-32"): r"labels.csv: is UTF-32",
    "image,A\na.jpg,1\n".encode("utf-16")[:-1]: r"labels.csv: not UTF-16 all through",
    "image,A\nZoë.jpg,1\n".encode("cp1252"): r"line 2: not UTF-8 text, perhaps Latin-1",
}


@pytest.mark.parametrize("content", REFUSED)
def test_what_cannot_be_told_is_named(tmp_path, content):
    with pytest.raises(DataError, match=REFUSED[content]):
        read_table(table(tmp_path, content))


def test_empty_splits_and_groups_of_pandas(tmp_path):
    path = table(tmp_path, "image,split,race,A\na.jpg,NaN,nan,1\nb.jpg,val,None,0\n")
    faces = open_faces("csv", path, group_columns=("race",))
    assert faces.splits == (None, "val")
    assert faces.groups == {"race": ("", "None")}


MIXED = "image,A,B\na.jpg,1,0\nb.jpg,-1,1\nc.jpg,,-1.0\n"


@pytest.mark.parametrize(
    ("unknown", "labels"),
    [
        ("0", [[1, -1], [0, 1], [-1, 0]]),
        ("-1", [[1, 0], [-1, 1], [-1, -1]]),
        ("none", [[1, 0], [0, 1], [-1, 0]]),
    ],
)
def test_zero_and_minus_one_anywhere_need_a_word(tmp_path, unknown, labels):
    path = table(tmp_path, MIXED)
    with pytest.raises(DataError, match=r"line 3: -1 in column 'A', but 0 in column 'B' \(line 2"):
        read_table(path)
    assert open_faces("csv", path, unknown=unknown).labels.tolist() == labels
    # A column that is left out is not asked.
    assert open_faces("csv", path, ignore_columns=("B",)).labels.tolist() == [[1], [0], [-1]]


@pytest.mark.parametrize(
    ("column", "use"),
    [
        ("partition", "call it 'split', with train, val and test"),
        ("is_train", "call it 'split'"),
        ("Fold", "call it 'split'"),
        ("Set", "call it 'split'"),
        ("image_id", "ignore_columns=image_id"),
        ("File Name", "ignore_columns=File Name"),
        ("identity", "group_columns=identity"),
        ("PersonID", "group_columns=PersonID"),
        ("age", "group_columns=age"),
    ],
)
def test_a_column_is_not_an_attribute_by_its_values_alone(tmp_path, column, use):
    path = table(tmp_path, f"image,{column},A\na.jpg,0,1\nb.jpg,1,0\n")
    with pytest.raises(DataError, match=rf"line 1: column '{column}' seems to hold .*{use}"):
        read_table(path)
    labels = {"a.jpg": {"A": 1}, "b.jpg": {"A": 0}}
    assert read(path, ignore=(column,)) == read(path, groups=(column,)) == labels
    schema = tmp_path / "schema.yaml"
    schema.write_text(f"attributes: [A, '{column}']\n")
    assert open_faces("csv", path, schema_file=schema).labels.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    "column",
    ["Male", "Young", "Smiling", "Wearing_Hat", "gender", "Bald", "Split_Lip", "Folded_Arms",
     "Trained", "Testy", "Value", "Validated_Face", "In_Use", "Devout"],
)  # fmt: skip
def test_attributes_are_attributes(column):
    assert no_attribute(column) is None


@pytest.mark.parametrize(
    "column",
    ["holdout", "is_holdout", "fold_id", "folds", "fold_0", "kfold_0", "val_fold", "cv", "eval",
     "evaluation", "trainset", "test_set", "in_train", "is_train_set", "dataset_split", "set",
     "train_test_split", "official_split", "Split Name", "partition_id", "tvt", "IsTrain", "Phase"],
)  # fmt: skip
def test_splits_are_no_attributes(column):
    assert no_attribute(column) == "a split"


def test_tables_are_told_by_their_endings(tmp_path):
    table(tmp_path, "image\tA\na.jpg\t1\n").rename(tmp_path / "labels.tsv")
    assert parse_data_spec(str(tmp_path / "labels.tsv")).open().labels.tolist() == [[1]]
    (tmp_path / "labels.txt").write_text("image\tA\na.jpg\t1\n")
    with pytest.raises(DataError, match=r"is a file.* given as csv:.*labels\.txt"):
        parse_data_spec(str(tmp_path / "labels.txt")).open()


def test_other_values_say_how_to_leave_a_column_out(tmp_path):
    path = table(tmp_path, "image,race\na.jpg,Asian\n")
    with pytest.raises(DataError, match=r"'race' has value 'Asian'; .* ignore_columns"):
        read_table(path)


def test_lists_of_lines_are_read_in_either_encoding(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("Zoë.jpg\r\n\r\nb.jpg\r\n".encode("utf-16"))
    assert list(read_lines(path)) == [(1, "Zoë.jpg"), (3, "b.jpg")]
    path.write_bytes(b"b.jpg\nZo\xeb.jpg\n")
    with pytest.raises(DataError, match=r"names.txt, line 2: not UTF-8 text"):
        list(read_lines(path))


SPELLED = {
    "int": {1: "1", 0: "0"},
    "float": {1: "1.0", 0: "0.0"},
    "bool": {1: "True", 0: "False"},
    "signed": {1: "1", 0: "-1"},
    "science": {1: "1.000e+00", 0: "0.000e+00"},
}
PLAIN = st.text("abcXYZ_ é", min_size=1, max_size=6).map(str.strip).filter(bool)
NASTY = (
    st.text("ab,;\t|\"'=é ", min_size=1, max_size=6)
    .map(str.strip)
    .filter(lambda n: n and plain_cell(n) == n)
)


@st.composite
def written(draw, names):
    """Return labels by image and attribute, and the bytes of a file that says so."""
    columns = st.lists(names.filter(lambda n: n != "image" and not no_attribute(n)), max_size=4)
    attributes = sorted({" ".join(n.split()).casefold(): n for n in [*draw(columns), "A"]}.values())
    rows = draw(st.lists(st.sampled_from(IMAGES), min_size=1, unique=True))
    truth = {r: {a: draw(st.sampled_from((1, 0, -1))) for a in attributes} for r in rows}
    separator = draw(st.sampled_from(",;\t|"))
    spelling = SPELLED[draw(st.sampled_from(sorted(SPELLED)))]
    if separator != "," and draw(st.booleans()):
        spelling = {k: v.replace(".", ",") for k, v in spelling.items()}
    unknown = draw(st.sampled_from(["", "nan", "NaN", "None", "<NA>", "NA"]))
    index = draw(st.sampled_from([None, "", "Unnamed: 0"]))
    trailing = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    order = draw(st.permutations(["image", *attributes]))
    buffer = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    ends = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    writer = csv.writer(buffer, delimiter=separator, quoting=quoting, lineterminator=ends)
    if draw(st.booleans()):
        buffer.write(f"sep={separator}{ends}")
    writer.writerow([*([] if index is None else [index]), *order, *[""] * trailing[0]])
    for number, name in enumerate(rows):
        row = {a: spelling.get(v, unknown) for a, v in truth[name].items()} | {"image": name}
        writer.writerow(
            [*([] if index is None else [number]), *(row[c] for c in order), *[""] * trailing[1]]
        )
        if draw(st.booleans()):
            buffer.write(ends)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    return truth, buffer.getvalue().encode(encoding)


@settings(max_examples=80, deadline=None)
@given(written(PLAIN))
def test_no_dialect_changes_a_label(tmp_path_factory, case):
    truth, content = case
    assert read(table(tmp_path_factory.getbasetemp() / "plain", content)) == truth


@settings(max_examples=120, deadline=None)
@given(written(NASTY))
def test_names_that_hold_separators_are_read_rightly_or_refused(tmp_path_factory, case):
    truth, content = case
    try:
        found = read(table(tmp_path_factory.getbasetemp() / "nasty", content))
    except DataError:
        return
    assert found == truth


@settings(max_examples=80, deadline=None)
@given(st.text("ab,;\t|\"'\n\r= 01.-", max_size=40))
def test_any_text_is_rows_of_one_width_or_a_sentence(tmp_path_factory, text):
    path = table(tmp_path_factory.getbasetemp() / "any", text)
    try:
        rows = list(read_csv(path))
    except DataError:
        return
    assert len({len(row) for _, row in rows}) == 1
    assert [line for line, _ in rows] == sorted({line for line, _ in rows})


@given(st.text("ab,;\t|\"'\n\r 1./", max_size=60), st.sampled_from([1, 8]))
def test_lines_that_are_cut_together_are_what_the_csv_module_reads(tmp_path_factory, text, block):
    path = table(tmp_path_factory.getbasetemp() / "together", "image,b\n" + text)

    def read():
        try:
            return list(read_csv(path))
        except DataError as error:
            return str(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialects, "_BLOCK", block)
        together = read()
        patch.setattr(dialects, "_is_simple", lambda *_: False)
        assert together == read()


@pytest.mark.parametrize("text", ['""\n', '"",""\n\n'])
def test_a_file_of_empty_fields_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "faces.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=r"faces\.csv: the file holds empty fields alone"):
        read_table(file)


FIELDS = st.text(alphabet="a1.-/=' \t\u00a0\u2003", max_size=5)


@given(row=st.lists(FIELDS, min_size=2, max_size=2))
def test_fields_are_stripped_and_unprotected_whatever_else_is_in_the_row(row, tmp_path_factory):
    """Rows that need neither are told at once; what is read must be the same."""
    file = tmp_path_factory.mktemp("rows") / "a.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["image", "b"], row, ["x", "y"]])
    (_, fields), *_ = list(read_csv(file))[1:]
    expected = [plain_cell(field.strip()) for field in row]
    assert fields == (expected if any(expected) else ["x", "y"])

"""Values that no command can use are refused before any work, in one sentence."""

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from shared import refused
from sspl.cli.main import cli
from sspl.domain.attributes import AttributeSchema, attribute_fault
from sspl.errors import DataError, SettingsError, SsplError
from sspl.inference.portable import PortableMetadata
from sspl.io.files import atomic_path, cell, plain_cell, write_csv, write_text
from sspl.models.model_metadata import ModelMetadata
from sspl.settings import build, read_settings
from sspl.settings.yaml_files import parse_yaml
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings

ODD_YAML = (
    "2001-99-99", "!!int abc", "!!float x", "0b_", "!!timestamp foo", "[", "{a: 1, a: 2}", "? [1]",
    "!!python/object/apply:os.getcwd []", "!!binary a", "9" * 5000, "[" * 5000, "!!bool x", "\x01",
)  # fmt: skip


@pytest.mark.parametrize("text", ODD_YAML)
def test_what_yaml_cannot_make_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_yaml(text)
    with pytest.raises(SettingsError, match=r"seed: the value .* is not valid YAML"):
        build(PretrainSettings, {}, [f"seed={text}"])
    (tmp_path / "x.yaml").write_text(f"seed: {text}\n")
    with pytest.raises(SettingsError, match=r"x\.yaml: not valid YAML"):
        read_settings(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    "override",
    [
        f"seed={2**63}", f"seed={10**30}", "seed=-1", "optim.epochs=" + "1" * 40, "optim.lr=.nan",
        "optim.lr=.inf", "optim.clip=.inf", f"weights={{prt: {-(2**70)}}}", "weights={prt: .nan}",
    ],
)  # fmt: skip
def test_numbers_that_nothing_can_be_done_with_are_refused(override: str) -> None:
    with pytest.raises(SettingsError, match=override.partition("=")[0].replace(".", r"\.")):
        build(PretrainSettings, {}, [override])


def test_the_largest_seed_and_references_are_taken() -> None:
    assert build(FinetuneSettings, {}, [f"seed={2**63 - 1}"]).seed == 2**63 - 1
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(SettingsError):
        build(FinetuneSettings, {"seed": loop})


def usage(*words: object) -> str:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == 2, (result.output, result.exception)
    return result.output


@pytest.mark.parametrize("host", ["", " ", "\u202e", "a b", "a/b", "\uff4cocalhost", "x" * 300])
def test_a_host_that_is_none_opens_nothing(host: str, tmp_path: Path) -> None:
    label = ("label", tmp_path, "--attributes", "A", "--out", tmp_path / "l.csv", "--host", host)
    assert "is no address" in usage(*label)
    assert "is no address" in usage("serve", tmp_path, "--host", host)
    assert not list(tmp_path.iterdir())


def test_only_a_file_is_written_over(tmp_path: Path) -> None:
    pipe, plug, folder = tmp_path / "pipe", tmp_path / "socket", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(plug))
    link = tmp_path / "link"
    link.symlink_to("/dev/full")
    before = sorted(tmp_path.iterdir())
    for path, kind in (
        (pipe, "a pipe"),
        (plug, "a socket"),
        (folder, "a folder"),
        (Path("/dev/full"), "a device"),
        (link, "a device"),
    ):
        with pytest.raises(SsplError, match=f"is {kind}, which is not written over"):
            write_text(path, "x")
        said = usage("report", tmp_path, "--out", path)
        assert f"is {kind}" in " ".join(said.split())
    assert sorted(tmp_path.iterdir()) == before
    assert Path("/dev/full").is_char_device()
    with atomic_path(tmp_path / "new") as place:
        place.write_text("x")
    assert (tmp_path / "new").read_text() == "x"


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
def test_options_are_finite(number: str, tmp_path: Path) -> None:
    for words in (
        ("model", "decide", tmp_path, "--sure-accuracy"),
        ("tensorboard", tmp_path, "--out", "o", "--watch"),
        ("faces", "detect", tmp_path, "--out", "o", "--min-score"),
        ("finetune", "--out", "o", "--fraction"),
    ):
        assert "Invalid value" in usage(*words, number)


METADATA = {
    "attributes": {"A": "whole", "B": "upper"},
    "box": [0, 0, 1, 1],
    "canvas": 4,
    "input_size": 4,
    "flip_average": True,
}
PORTABLE = METADATA | {"thresholds": [0.5, 0.5], "opset": 18, "versions": {}}
MODEL = METADATA | {
    "backbone": {}, "head": {"pooling": "average"}, "training_rates": [0, 1],
    "temperatures": [1, 1],
}  # fmt: skip


@pytest.mark.parametrize(
    "odd",
    [
        {"canvas": 24000}, {"input_size": 24000}, {"unsure": {"A": [0.6, 0.4]}},
        {"unsure": {"X": [0, 1]}}, {"unsure": {"A": [float("nan"), 1]}},
        {"box": [0, 0, float("nan"), 1]}, {"attributes": {}},
        {"attributes": {"A": "whole", "score": "whole"}},
        {"attributes": {"A": "whole", "A_probability": "whole"}},
        {"attributes": {"A": "", "=B": ""}},
        *({"thresholds": [0.5, x]} for x in (float("nan"), float("inf"), 5, -1e9)),
    ],
)  # fmt: skip
def test_metadata_of_a_model_are_within_range(odd: dict[str, object]) -> None:
    assert build(PortableMetadata, PORTABLE).canvas == build(ModelMetadata, MODEL).canvas == 4
    with pytest.raises(SettingsError):
        build(PortableMetadata, PORTABLE | odd)
    if "attributes" in odd:
        return  # which the schema of a model refuses
    if "thresholds" in odd:
        odd = {"thresholds": {"A": odd["thresholds"][1]}}  # type: ignore[index]
    with pytest.raises(SettingsError):
        build(ModelMetadata, MODEL | odd)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("left",), "result tables"), (("Score",), "result tables"), (("image",), "result tables"),
        (("Smiling", "Smiling_probability"), "probability of another"), (("=A",), "formula"),
        (("-A",), "formula"), (("@A",), "formula"), (("+A",), "formula"), (("\tA",), "cannot be"),
        (("A\n",), "cannot be"), ((" ",), "cannot be"), (("\u202eA",), "cannot be"),
        (("A", "A"), "twice"),
    ],
)  # fmt: skip
def test_attributes_are_columns_of_their_own(
    names: tuple[str, ...], why: str, tmp_path: Path
) -> None:
    assert why in str(attribute_fault(names))
    with pytest.raises(DataError, match=why):
        AttributeSchema(names, ("whole",) * len(names))
    if why in ("result tables", "probability of another") and "image" not in names:
        (tmp_path / "a.jpg").touch()
        (tmp_path / "x.csv").write_text(f"image,{','.join(names)}\na.jpg{',1' * len(names)}\n")
        assert why in refused("data", "check", f"csv:{tmp_path / 'x.csv'}")


def test_names_of_attributes_may_be_of_any_script() -> None:
    assert (
        attribute_fault(("Lächeln", "笑顔", "می\u200cخندد", "Wears Hat", "A_b", "probability"))
        is None
    )


@given(st.text(st.sampled_from("=+-@'./a1 "), max_size=6), st.sampled_from(["image", "reason"]))
def test_no_cell_is_a_formula_and_every_one_reads_back(text: str, column: str) -> None:
    text = text.strip()
    if column == "image" and text.startswith(("./", "'")):
        return  # which no clean name does, but for the apostrophe that stays
    shown = cell(column, text)
    assert plain_cell(shown) == text or shown == text
    if shown[:1] in ("=", "+", "-", "@") and shown:
        float(shown)


def test_names_that_begin_like_formulas_come_back_from_a_table(tmp_path: Path) -> None:
    from sspl.data.adapters.source import read_csv

    rows = [("=a.jpg", "=b"), ("-1.jpg", "-1"), ("@x/a.jpg", "'=x"), ("a.jpg", "-x")]
    write_csv(tmp_path / "x.csv", ("image", "group"), rows)
    text = (tmp_path / "x.csv").read_text()
    assert text.splitlines()[1:] == ["./=a.jpg,'=b", "./-1.jpg,-1", "./@x/a.jpg,''=x", "a.jpg,'-x"]
    assert [tuple(row) for _, row in read_csv(tmp_path / "x.csv")][1:] == rows


def test_a_graph_that_gives_no_probabilities_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from sspl.inference.portable import METADATA_KEY, load_portable

    helper, kind = onnx.helper, onnx.TensorProto
    for value in (90.27, float("nan"), -1.0, 0.25):
        weight = onnx.numpy_helper.from_array(np.full((48, 2), value, np.float32), "w")
        zero = onnx.numpy_helper.from_array(np.full(48, 1 / 48, np.float32), "z")
        nodes = [
            helper.make_node("Cast", ["images"], ["f"], to=kind.FLOAT),
            helper.make_node("Flatten", ["f"], ["g"]),
            helper.make_node("Mul", ["g", "z"], ["h"]),
            helper.make_node("MatMul", ["h", "w"], ["probabilities"]),
        ]
        image = helper.make_tensor_value_info("images", kind.UINT8, ["n", 4, 4, 3])
        out = helper.make_tensor_value_info("probabilities", kind.FLOAT, ["n", 2])
        graph = helper.make_graph(nodes, "g", [image], [out], [weight, zero])
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        proto.ir_version = 9
        helper.set_model_props(proto, {METADATA_KEY: json.dumps(PORTABLE)})
        (tmp_path / "x.onnx").write_bytes(proto.SerializeToString())
        model = load_portable(tmp_path / "x.onnx")
        ones = np.ones((3, 4, 4, 3), np.uint8)
        if value == 0.25:
            assert np.allclose(model.probabilities(ones), 0.25)
        else:
            with pytest.raises(DataError, match="no probabilities"):
                model.probabilities(ones)

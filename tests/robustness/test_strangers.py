"""Model files from strangers: nothing in them runs, and nothing is believed before it is checked.

Files that are not what they say are refused in one sentence, before memory is taken for what they
promise.
"""

import ast
import json
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import sspl
from sspl.data.adapters.lfwa import read_lfwa
from sspl.domain.attributes import AttributeSchema
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.errors import DataError, SsplError
from sspl.inference.portable import load_portable
from sspl.io.checkpoints import load_state
from sspl.io.run_files import PRETRAINED_FILE, STATE_FILE
from sspl.io.weights import read_tensors, save_tensors
from sspl.models.bundle import AttributeModel, load_model, save_model
from sspl.models.network_settings import BackboneSettings, HeadSettings
from sspl.models.splnet import build_attribute_network
from sspl.parsing.model import ParserModel, load_parser, save_parser
from sspl.parsing.network import ParserNetwork
from sspl.parsing.parser_settings import ParserModelSettings
from sspl.reporting.pretext import pretext_pictures
from sspl.settings import read_settings
from sspl.training.backbone_weights import load_backbone
from sspl.training.pretext_network import build_network
from sspl.training.stage_settings import PretrainSettings
from sspl.training.transfer import transfer

SCHEMA = AttributeSchema(("Smiling", "Eyeglasses"), ("whole", "upper"))
BACKBONE = BackboneSettings(width=0.05, stem_stride=2)
SOURCE = Path(sspl.__file__).resolve().parent


def attribute_network() -> Any:
    return build_attribute_network("sspl", BACKBONE, HeadSettings(), SCHEMA).eval()


def make_model(folder: Path) -> Path:
    half = np.full(2, 0.5)
    save_model(
        folder, AttributeModel(attribute_network(), SCHEMA, (0, 0, 1, 1), 40, 32, True, half, half)
    )
    return folder / "model.safetensors"


def make_parser(folder: Path) -> Path:
    taxonomy, size = built_in_taxonomy("celebamask19"), ParserModelSettings(width=0.125)
    save_parser(folder, ParserModel(ParserNetwork(len(taxonomy), size), taxonomy, 64), size)
    return folder / "parser.safetensors"


def make_pretrained(folder: Path) -> Path:
    settings = PretrainSettings(backbone=BACKBONE, tasks=("pct",), input_size=32, canvas=40)
    taxonomy = built_in_taxonomy("celebamask19")
    metadata = {
        "kind": "pretrained",
        "architecture": "sspl",
        "backbone": BACKBONE.model_dump(mode="json"),
        "segmentation": settings.segmentation.model_dump(mode="json"),
        "tasks": ["pct"],
        "classes": list(taxonomy.classes),
    }
    network = build_network(settings, taxonomy)
    save_tensors(folder / PRETRAINED_FILE, network.state_dict(), metadata)
    return folder / PRETRAINED_FILE


KINDS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "model": (make_model, load_model),
    "parser": (make_parser, load_parser),
    "pretrained": (make_pretrained, lambda path: transfer(attribute_network(), path)),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: make(tmp_path_factory.mktemp(kind)) for kind, (make, _) in KINDS.items()}


def parts(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["sspl"])
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118


def write_raw(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(shape: list[int], offsets: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HUGE = 2**40
HEADERS: dict[str, tuple[object, bytes, int | None]] = {
    "promises more than the file has": ({"a": entry([HUGE], [0, 4 * HUGE])}, b"", None),
    "a header longer than the file": ({}, b"", HUGE),
    "a header of no length": ({}, b"", 0),
    "shape and bytes differ": ({"a": entry([3], [0, 8])}, bytes(8), None),
    "a shape whose size overflows": ({"a": entry([2**32, 2**32], [0, 0])}, b"", None),
    "a negative size": ({"a": entry([-1], [0, -4])}, b"", None),
    "a gap": ({"a": entry([1], [4, 8])}, bytes(8), None),
    "two in one place": ({"a": entry([1], [0, 4]), "b": entry([1], [0, 4])}, bytes(4), None),
    "bytes that belong to none": ({"a": entry([1], [0, 4])}, bytes(8), None),
    "no such kind of number": ({"a": entry([1], [0, 4], "F33")}, bytes(4), None),
    "a kind that is a list": ({"a": entry([1], [0, 4], ["F32"])}, bytes(4), None),  # type: ignore[arg-type]
    "a fraction of a number": ({"a": entry([0.5, 2], [0, 4])}, bytes(4), None),  # type: ignore[list-item]
    "a truth for a number": ({"a": entry([True], [0, 4])}, bytes(4), None),
    "offsets of one": ({"a": entry([1], [0])}, bytes(4), None),
    "more keys": ({"a": entry([1], [0, 4]) | {"x": 1}}, bytes(4), None),
    "a tensor that is a text": ({"a": "b"}, b"", None),
    "a name that comes twice": (
        b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],'
        b'"data_offsets":[0,0]}}', b"", None,
    ),
    "metadata that are no texts": ({"__metadata__": {"sspl": 3}}, b"", None),
    "metadata that are a list": ({"__metadata__": []}, b"", None),
    "a list": ([], b"", None),
    "nested without end": (b'{"a":' + b"[" * 200_000, b"", None),
    "not UTF-8": (b'{"\xff": 1}', b"", None),
    "too many dimensions": ({"a": entry([1] * 9, [0, 4])}, bytes(4), None),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_does_not_fit_its_file_is_refused(tmp_path: Path, name: str) -> None:
    header, data, length = HEADERS[name]
    path = write_raw(tmp_path / "x.safetensors", header, data, length)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"x\.safetensors: damaged model file") as caught:
            read_tensors(path)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_a_sound_header_is_not_refused(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"sspl": '{"a": 1}'},
        "b": entry([2, 1], [4, 12]),
        "none": entry([0, 3], [4, 4]),
        "a": entry([], [0, 4]),
    }
    path = write_raw(tmp_path / "x", header, np.arange(3, dtype="<f4").tobytes())
    tensors, metadata = read_tensors(path)
    assert metadata == {"a": 1}
    assert tensors["a"].item() == 0
    assert tensors["b"].tolist() == [[1], [2]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_file_is_read(sound: dict[str, Path], kind: str) -> None:
    KINDS[kind][1](sound[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_file_is_named(sound: dict[str, Path], kind: str) -> None:
    for other in KINDS.keys() - {kind}:
        with pytest.raises(DataError, match=r"holds no|pre-trained without PST"):
            KINDS[kind][1](sound[other])


@pytest.mark.parametrize("kind", KINDS)
def test_every_missing_fact_is_named(sound: dict[str, Path], kind: str, tmp_path: Path) -> None:
    tensors, metadata = parts(sound[kind])
    optional = {
        "model": {
            "architecture",
            "segmentation",
            "classes",
            "thresholds",
            "unsure",
            "normalisation",
            "pictures",
        },
        "parser": set[str](),
        "pretrained": {"architecture", "segmentation", "tasks", "classes"},
    }
    for key in metadata.keys() - {"kind"} - optional[kind]:
        path = tmp_path / "x.safetensors"
        save_tensors(path, tensors, {k: v for k, v in metadata.items() if k != key})
        with pytest.raises(DataError, match=f"{key}: is missing"):
            KINDS[kind][1](path)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["sspl", "splnet", "whole", "regions", "average", "celeba", "nan", "../x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where every value within a JSON value stands."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=12, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(data=st.data())
def test_metadata_of_any_content_are_read_or_refused(
    sound: dict[str, Path], kind: str, tmp_path: Path, data: st.DataObject
) -> None:
    tensors, metadata = parts(sound[kind])
    place = data.draw(st.sampled_from(list(places(metadata))))
    node: Any = metadata
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = data.draw(JSON)
    path = tmp_path / "x.safetensors"
    save_tensors(path, tensors, metadata)
    with suppress(DataError):
        KINDS[kind][1](path)


def test_a_file_that_describes_a_huge_network_costs_nothing(
    sound: dict[str, Path], tmp_path: Path
) -> None:
    """Width 4 and depth 50 are some 370 million numbers; the file brings those of a small one."""
    tensors, metadata = parts(sound["model"])
    metadata["backbone"] |= {"depth": 50, "width": 4}
    save_tensors(tmp_path / "x.safetensors", tensors, metadata)
    before = peak_memory()
    with pytest.raises(DataError, match=r"tensor '.*'"):
        load_model(tmp_path / "x.safetensors")
    assert peak_memory() - before < 200 * 2**20


def peak_memory() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(
    sound: dict[str, Path], tmp_path: Path, value: float
) -> None:
    tensors, metadata = parts(sound["model"])
    tensors["head.bias"][1] = value
    save_tensors(tmp_path / "x", tensors, metadata)
    with pytest.raises(DataError, match=r"'head\.bias' holds values that are no finite numbers"):
        load_model(tmp_path / "x")


def test_whole_numbers_are_no_weights(sound: dict[str, Path], tmp_path: Path) -> None:
    tensors, metadata = parts(sound["model"])
    tensors["head.bias"] = torch.ones(2, dtype=torch.int64)
    save_tensors(tmp_path / "x", tensors, metadata)
    with pytest.raises(DataError, match=r"'head\.bias' holds torch\.int64"):
        load_model(tmp_path / "x")


@pytest.mark.parametrize("name", ["hf-hub:someone/model", "local-dir:/tmp/x", "a/b", "../x"])
def test_a_backbone_is_never_looked_up_elsewhere(
    sound: dict[str, Path], tmp_path: Path, name: str
) -> None:
    tensors, metadata = parts(sound["model"])
    metadata["backbone"] = {"timm": name}
    save_tensors(tmp_path / "x", tensors, metadata)
    with pytest.raises(DataError, match=r"backbone\.timm"):
        load_model(tmp_path / "x")


class Malicious:
    """What makes an unpickler create a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, (f"open({str(self.mark)!r}, 'w').close()",))


def malicious_files(folder: Path) -> Iterator[Path]:
    """Yield pickles in the guises in which model and data files come."""
    mark = folder / "executed"
    bad = Malicious(mark)
    plain = folder / "plain"
    plain.write_bytes(pickle.dumps(bad))
    saved = folder / "saved"
    torch.save({"state_dict": bad}, saved)
    old = folder / "old"
    torch.save(bad, old, _use_new_zipfile_serialization=False)
    array = folder / "array"
    with array.open("wb") as file:
        np.save(file, np.array([bad], dtype=object), allow_pickle=True)
    archive = folder / "archive"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("../escaped", "x")
        zipped.writestr("archive/data.pkl", pickle.dumps(bad))
    tagged = folder / "tagged"
    tagged.write_text(f"a: !!python/object/apply:os.system ['touch {mark}']\n")
    yield from (plain, saved, old, array, archive, tagged)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    network = attribute_network()
    optimiser = torch.optim.Adam(network.parameters())
    readers: list[tuple[str, Callable[[Path], object]]] = [
        ("model.safetensors", load_model),
        ("parser.safetensors", load_parser),
        (PRETRAINED_FILE, lambda path: transfer(attribute_network(), path)),
        (STATE_FILE, lambda path: load_state(path.parent, network, optimiser)),
        ("backbone.safetensors", lambda path: load_backbone(network.backbone, path)),
        ("model.onnx", load_portable),
        ("settings.yaml", read_settings),
        ("lfw_att_40.mat", read_lfwa),
    ]
    for bad in malicious_files(tmp_path):
        for i, (name, reader) in enumerate(readers):
            place = tmp_path / f"{bad.name}-{i}" / name
            place.parent.mkdir()
            place.write_bytes(bad.read_bytes())
            with pytest.raises(SsplError):
                reader(place)
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "escaped").exists()
    # The files are malicious indeed: an unpickler falls for them.
    with (tmp_path / "plain").open("rb") as file:
        pickle.load(file)
    assert (tmp_path / "executed").exists()


FORBIDDEN = {
    "torch.load", "torch.hub.load", "pickle.load", "pickle.loads", "joblib.load", "eval", "exec",
    "np.load", "numpy.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "marshal.loads",
    "shelve.open", "dill.load", "dill.loads", "cloudpickle.load", "cloudpickle.loads",
}  # fmt: skip
FORBIDDEN_MODULES = {"pickle", "shelve", "marshal", "dill", "cloudpickle", "joblib"}


def unsafe_calls(code: str) -> list[str]:
    """Return the calls and imports in code that can run what stands in a file."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [n for n in names if n.split(".")[0] in FORBIDDEN_MODULES]
        if not isinstance(node, ast.Call):
            continue
        name, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        safe_torch = name == "torch.load" and options.get("weights_only") == "True"
        safe_numpy = name in {"np.load", "numpy.load"} and options.get("allow_pickle") == "False"
        if name in FORBIDDEN and not (safe_torch or safe_numpy):
            found.append(name)
        if name == "yaml.load":
            loader = options.get("Loader") or (ast.unparse(node.args[1]) if node.args[1:] else "")
            if loader not in {"yaml.SafeLoader", "yaml.CSafeLoader", "_StrictLoader"}:
                found.append(name)
        if options.get("allow_pickle") == "True":
            found.append(f"{name}(allow_pickle=True)")
    return found


def test_no_load_path_can_run_what_stands_in_a_file() -> None:
    found = {
        str(path.relative_to(SOURCE)): unsafe
        for path in SOURCE.rglob("*.py")
        if (unsafe := unsafe_calls(path.read_text(encoding="utf-8")))
    }
    assert not found


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(p)", "torch.load(p, weights_only=False)", "import pickle",
        "from pickle import loads", "np.load(p)", "np.load(p, allow_pickle=True)", "yaml.load(t)",
        "yaml.load(t, yaml.Loader)", "yaml.load(t, Loader=yaml.FullLoader)", "eval(t)",
        "yaml.unsafe_load(t)", "f(x, allow_pickle=True)",
    ],
)  # fmt: skip
def test_unsafe_calls_would_be_seen(code: str) -> None:
    assert unsafe_calls(code)


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(p, weights_only=True)", "yaml.safe_load(t)", "network.eval()",
        "yaml.load(t, _StrictLoader)", "np.load(p, allow_pickle=False)", "json.load(f)",
    ],
)  # fmt: skip
def test_safe_calls_are_not_mistaken(code: str) -> None:
    assert not unsafe_calls(code)


def test_a_report_of_a_strangers_stage_1_runs_none_of_its_code(tmp_path: Path) -> None:
    code, ran = tmp_path / "task.py", tmp_path / "ran"
    code.write_text(f"open({str(ran)!r}, 'w').close()\n", encoding="utf-8")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "pretrained.safetensors").touch()
    (tmp_path / "run" / "settings.yaml").write_text(f"tasks: ['{code}:Task']\n", encoding="utf-8")
    assert pretext_pictures(tmp_path / "run", None, None) == {}
    assert not ran.exists()

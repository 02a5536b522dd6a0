"""Weights on disk: strict, atomic, whole; and what stage 2 takes from stage 1."""

import hashlib
import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from shared import tasks_of
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.errors import DataError, SsplError
from sspl.io import weights
from sspl.io.files import write_csv, write_json, write_text
from sspl.io.run_files import PRETRAINED_FILE
from sspl.io.weight_headers import stated_checksum
from sspl.io.weights import (
    TransferReport,
    build_strictly,
    load_strictly,
    load_tensors,
    read_state_dict,
    read_tensors,
    save_tensors,
)
from sspl.models.attributes import AttributeNetwork
from sspl.models.backbones.resnet import ResNet
from sspl.models.network_settings import BackboneSettings, HeadSettings, SegmentationSettings
from sspl.training.pretext_network import Pretrainer
from sspl.training.stage_settings import PretrainSettings
from sspl.training.transfer import transfer

SMALL = BackboneSettings(width=0.125, stem_stride=2)
TENSORS = {
    "a": torch.arange(6.0).view(2, 3),
    "b.count": torch.tensor(7),
    "c": torch.ones(3, 2).t(),  # not contiguous
    "d": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
}


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    metadata = {"kind": "x", "box": [0.1, 0.2], "deep": {"ö": None, "n": 3}}
    path = tmp_path / "new" / "x.safetensors"
    save_tensors(path, TENSORS, metadata)
    tensors, back = load_tensors(path)
    assert back == metadata
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert os.listdir(path.parent) == ["x.safetensors"]  # noqa: PTH208 - hidden files too


def test_tensors_that_share_memory_can_be_saved(tmp_path: Path) -> None:
    base = torch.arange(4.0)
    save_tensors(tmp_path / "x", {"all": base, "half": base[:2]}, {})
    assert load_tensors(tmp_path / "x")[0]["half"].tolist() == [0, 1]


def test_what_is_written_is_marked_and_has_a_checksum(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.tensor([[1.0, 2.0]]))
    content = b"\0w\0torch.float32\0(1, 2)\0" + bytes.fromhex("0000803f00000040")
    for metadata, text in ((None, "null"), ({"n": 1}, '{"n": 1}')):
        save_tensors(tmp_path / "x", {"w": weight}, metadata)
        tensors, back = read_tensors(tmp_path / "x")
        assert tensors["w"].tolist() == [[1, 2]]
        assert back == metadata
        with safe_open(tmp_path / "x", framework="pt") as file:
            assert file.metadata() == {
                "sspl_sha256": hashlib.sha256(text.encode() + content).hexdigest(),
                **({"format": "pt"} if metadata is None else {"sspl": text}),
            }
    assert weight.requires_grad


def test_a_report_counts_tensors_by_module() -> None:
    loaded = ("backbone.stem.weight", "backbone.stem.bias", "backbone.act.weight", "head")
    assert TransferReport(loaded, (), ("head.weight",)).text().splitlines() == [
        "transferred: 4 tensors: backbone.stem (2), backbone.act (1), head (1)",
        "left behind: 0 tensors: nothing",
        "new: 1 tensors: head.weight (1)",
    ]


@pytest.mark.parametrize(
    "within",
    ["", "state_dict", "model_state_dict", "model", "network", "model state_dict"],
)
def test_a_state_dict_is_found_wherever_scripts_leave_it(tmp_path: Path, within: str) -> None:
    content: dict[str, Any] = {"module.a.weight": torch.tensor([1.0]), "b": torch.ones(()), "n": 3}
    for key in reversed(within.split()):
        content = {"epoch": 3, key: content, "optimiser": {}}
    torch.save(content, tmp_path / "x.pt")
    found = read_state_dict(tmp_path / "x.pt")
    assert {name: tensor.tolist() for name, tensor in found.items()} == {"a.weight": [1], "b": 1}


@pytest.mark.parametrize("content", [{}, [torch.ones(1)], {"model": 3}, {"a": {"b": 1}}])
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "x.pt"
    torch.save(content, path)
    with pytest.raises(DataError) as caught:
        read_state_dict(path)
    assert str(caught.value) == f"{path}: holds no state_dict, which has a tensor for each name."


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1), "path": Path("x")}, tmp_path / "x.pt")
    with pytest.raises(DataError, match="cannot be read as tensors alone"):
        read_state_dict(tmp_path / "x.pt")


def test_tensors_of_a_gpu_are_read_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
    torch.save({"a": torch.ones(1)}, tmp_path / "x.pt")
    assert read_state_dict(tmp_path / "x.pt")["a"].device.type == "cpu"


class RandomFills(TorchDispatchMode):
    """Counts what is filled at random while it is on, by the device that it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default):
            self.devices.append(args[0].device.type)
        return func(*args, **(kwargs or {}))


def test_a_network_that_is_built_for_its_shapes_gets_no_random_values() -> None:
    """On the meta device they bring in torch's compiler: seconds, for nothing."""

    def make() -> nn.Module:
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2), nn.Linear(2, 2))
        nn.init.kaiming_normal_(network[0].weight)
        nn.init.trunc_normal_(tensor=network[1].weight, std=0.1)
        network[2].weight.data.normal_()
        return network

    wanted = make().state_dict()
    with RandomFills() as seen:
        network = build_strictly(make, wanted, "x")
    assert seen.devices
    assert set(seen.devices) == {"cpu"}
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, wanted[name])


def test_a_network_that_does_not_fit_is_never_given_memory() -> None:
    devices = []

    def make() -> nn.Module:
        layer = nn.Linear(3, 2, bias=False)
        devices.append(layer.weight.device.type)
        return layer

    with pytest.raises(DataError, match=r"here: tensor 'weight' has shape \(2, 2\)"):
        build_strictly(make, {"weight": torch.ones(2, 2)}, "here")
    assert devices == ["meta"]
    build_strictly(make, {"weight": torch.ones(2, 3)}, "here")
    assert devices == ["meta", "meta", "cpu"]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    tensors = dict(network().state_dict())
    tensors["1.running_var"] = torch.tensor([1.0, value])
    with pytest.raises(DataError) as caught:
        load_strictly(network(), tensors, "here")
    assert str(caught.value) == (
        "here: tensor '1.running_var' holds values that are no finite numbers."
    )


@pytest.mark.parametrize("cut", [0, 5, 40, -1])
def test_damaged_file_is_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, {"kind": "x"})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="damaged model file") as caught:
        load_tensors(path)
    assert str(path) in str(caught.value)


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.safetensors: no such model file"):
        load_tensors(tmp_path / "gone.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(DataError, match=r"foreign\.safetensors: not a model of this software"):
        load_tensors(foreign)
    save_file({"a": torch.zeros(1)}, foreign, {"sspl": "{no json"})
    with pytest.raises(DataError, match=r"foreign\.safetensors: damaged"):
        load_tensors(foreign)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.PReLU(2))


def test_fitting_tensors_are_loaded_all() -> None:
    source = {name: torch.rand(t.shape) for name, t in network().state_dict().items()}
    source["1.num_batches_tracked"] = torch.tensor(12)
    target = network()
    load_strictly(target, source, "here")
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, source[name])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"2.weight": None}, "here: tensor '2.weight' is missing"),
        ({"1.running_mean": None}, "here: tensor '1.running_mean' is missing"),
        ({"2.bias": torch.zeros(2)}, "here: tensor '2.bias' has no place in this network"),
        (
            {"0.weight": torch.zeros(2, 4)},
            r"here: tensor '0.weight' has shape \(2, 4\), the network wants \(2, 3\)",
        ),
        ({"2.weight": torch.zeros(1)}, r"tensor '2.weight' has shape \(1,\)"),
        (
            {"2.weight": torch.zeros(2, dtype=torch.int64)},
            r"tensor '2.weight' holds torch\.int64, the network wants torch\.float32\.",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(changes: dict[str, Tensor | None], reason: str) -> None:
    target = network()
    before = {n: t.clone() for n, t in target.state_dict().items()}
    tensors = {n: t + 1 for n, t in before.items()} | changes
    with pytest.raises(DataError, match=reason):
        load_strictly(target, {n: t for n, t in tensors.items() if t is not None}, "here")
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, {"run": 1})
    old = path.read_bytes()

    def half_written(tensors: object, temporary: Path, metadata: object) -> None:
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save_file", half_written)
    with pytest.raises(SsplError, match="No space left on device") as caught:
        save_tensors(path, TENSORS, {"run": 2})
    assert str(path) in str(caught.value)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == [path.name]  # noqa: PTH208 - hidden files too


@pytest.fixture
def no_large_files() -> Iterator[None]:
    """Let no file grow past 64 KiB, much as a full disk would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("no_large_files")
def test_full_disk_is_an_error_that_users_can_act_on(tmp_path: Path) -> None:
    with pytest.raises(SsplError, match="cannot write"):
        save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(2**16)}, {})


@pytest.mark.usefixtures("no_large_files")
def test_full_disk_leaves_the_old_text(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with pytest.raises(SsplError, match="free some space") as caught:
        write_text(path, "n" * 2**17)
    assert str(path) in str(caught.value)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]  # noqa: PTH208 - hidden files too


def test_reader_of_the_old_file_never_sees_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with path.open() as reader:
        write_text(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_json_refuses_nan_and_csv_leaves_none_empty(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": 0.5})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 0.5}
    write_csv(tmp_path / "x.csv", ("a", "b"), [(1, None), ("x,y", 2)])
    assert (tmp_path / "x.csv").read_bytes() == b'a,b\n1,\n"x,y",2\n'


CLASSES = built_in_taxonomy("celebamask19").classes
METADATA = {
    "kind": "pretrained",
    "backbone": SMALL.model_dump(mode="json"),
    "segmentation": SegmentationSettings().model_dump(mode="json"),
    "classes": CLASSES,
    "tasks": ["prt", "pst", "pct"],
}


@pytest.fixture(scope="module")
def stage_1(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """A stage-1 run whose tensors, slopes and statistics too, are all unlike a fresh one's."""
    torch.manual_seed(1)
    settings = PretrainSettings(backbone=SMALL)
    backbone = ResNet(SMALL)
    tasks = tasks_of(settings, backbone)
    tensors = {
        name: torch.rand(t.shape) if t.is_floating_point() else torch.tensor(41)
        for name, t in Pretrainer(backbone, tasks).state_dict().items()
    }
    run = tmp_path_factory.mktemp("stage1")
    save_tensors(run / PRETRAINED_FILE, tensors, METADATA)
    return run, tensors


def test_transfer_carries_every_backbone_tensor(stage_1: tuple[Path, dict[str, Tensor]]) -> None:
    run, tensors = stage_1
    target = AttributeNetwork(SMALL, HeadSettings(), 5)
    head = {n: t.clone() for n, t in target.head.state_dict().items()}
    report = transfer(target, run)
    for name, tensor in target.backbone.state_dict().items():
        assert torch.equal(tensor, tensors[f"backbone.{name}"]), name
    slopes = [n for n, m in target.backbone.named_modules() if isinstance(m, nn.PReLU)]
    norms = [n for n, m in target.backbone.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert {f"backbone.{n}.weight" for n in slopes} <= set(report.loaded)
    assert {f"backbone.{n}.running_var" for n in norms} <= set(report.loaded)
    for name, tensor in target.head.state_dict().items():
        assert torch.equal(tensor, head[name])


def test_transfer_reports_all_tensors_of_both_stages(
    stage_1: tuple[Path, dict[str, Tensor]],
) -> None:
    run, tensors = stage_1
    target = AttributeNetwork(SMALL, HeadSettings(), 5)
    report = transfer(target, run / PRETRAINED_FILE)
    assert set(report.loaded) == {f"backbone.{n}" for n in target.backbone.state_dict()}
    assert set(report.left) == {n for n in tensors if n.startswith("tasks.")}
    assert {"tasks.prt.which.weight", "tasks.pst.head.mix.2.weight", "tasks.pct.head.bias"} <= set(
        report.left
    )
    assert set(report.new) == {"head.weight", "head.bias"}
    loaded, left, new = report.text().splitlines()
    assert loaded.startswith(f"transferred: {len(report.loaded)} tensors: ")
    assert left.startswith(f"left behind: {len(report.left)} tensors: ")
    assert "tasks.prt (" in left
    assert new == "new: 2 tensors: head.weight (1), head.bias (1)"


@pytest.mark.parametrize("change", [{"width": 0.25}, {"stem_stride": 4}, {"depth": 34}])
def test_another_backbone_is_refused(
    stage_1: tuple[Path, dict[str, Tensor]], change: dict[str, float]
) -> None:
    other = BackboneSettings(**({"width": 0.125, "stem_stride": 2} | change))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="use the same backbone settings"):
        transfer(AttributeNetwork(other, HeadSettings(), 5), stage_1[0])


def test_incomplete_or_foreign_stage_1_is_refused(
    tmp_path: Path, stage_1: tuple[Path, dict[str, Tensor]]
) -> None:
    target = AttributeNetwork(SMALL, HeadSettings(), 5)
    short = {n: t for n, t in stage_1[1].items() if n != "backbone.act.weight"}
    save_tensors(tmp_path / PRETRAINED_FILE, short, METADATA)
    with pytest.raises(DataError, match=r"tensor 'act\.weight' is missing"):
        transfer(target, tmp_path)
    save_tensors(tmp_path / PRETRAINED_FILE, short, {"kind": "parser"})
    with pytest.raises(DataError, match="holds no stage-1 weights but a face parser"):
        transfer(target, tmp_path)
    with pytest.raises(DataError, match="no such model file"):
        transfer(target, tmp_path / "gone")


def with_regions(**changes: int) -> AttributeNetwork:
    segmentation = SegmentationSettings(**changes)  # type: ignore[arg-type]
    return AttributeNetwork(SMALL, HeadSettings(pooling="regions"), 5, segmentation, CLASSES)


def test_pooling_by_region_takes_over_the_segmentation_head(
    stage_1: tuple[Path, dict[str, Tensor]],
) -> None:
    run, tensors = stage_1
    target = with_regions()
    report = transfer(target, run)
    for name, tensor in target.pooling.segmentation.state_dict().items():
        assert torch.equal(tensor, tensors[f"tasks.pst.head.{name}"]), name
    assert all(n.startswith(("tasks.prt.", "tasks.pct.")) for n in report.left)
    norm = {f"pooling.norm.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")}
    assert set(report.new) == {"head.weight", "head.bias"} | norm


def test_pooling_by_region_needs_the_same_head_classes_and_pst(
    tmp_path: Path, stage_1: tuple[Path, dict[str, Tensor]]
) -> None:
    run, tensors = stage_1
    with pytest.raises(DataError, match="use the same segmentation settings"):
        transfer(with_regions(width=64), run)
    save_tensors(tmp_path / PRETRAINED_FILE, tensors, METADATA | {"tasks": ["prt", "pct"]})
    with pytest.raises(DataError, match=r"without PST.*head\.pooling=average"):
        transfer(with_regions(), tmp_path)
    save_tensors(tmp_path / PRETRAINED_FILE, tensors, METADATA | {"classes": CLASSES[::-1]})
    with pytest.raises(DataError, match="use the same classes settings"):
        transfer(with_regions(), tmp_path)


def test_network_is_built_again_from_its_metadata() -> None:
    network = with_regions(maps=2, width=16)
    metadata = json.loads(json.dumps(network.metadata()))
    again = AttributeNetwork.from_metadata(metadata, 5)
    again.load_state_dict(network.state_dict())
    assert again.metadata() == network.metadata()
    face = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.eval()(face), network.eval()(face))


def test_the_stated_checksum_is_of_the_content(tmp_path: Path) -> None:
    one, two, other, plain = (tmp_path / f"{n}.safetensors" for n in "abcd")
    tensors = {name: torch.full((3,), 1.0) for name in "xyz"}
    for file in (one, two):
        save_tensors(file, tensors, {"kind": "pretrained", "canvas": 4})
    save_tensors(other, tensors | {"x": torch.zeros(3)}, {"kind": "pretrained", "canvas": 4})
    save_file(tensors, plain)
    assert stated_checksum(one) == stated_checksum(two) != stated_checksum(other)
    assert stated_checksum(plain) is None
    plain.write_bytes(plain.read_bytes()[:20])
    with pytest.raises(DataError, match=r"d\.safetensors: damaged model file"):
        stated_checksum(plain)

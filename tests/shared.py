"""What several test files do in the same way."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
import torch
from click.testing import CliRunner, Result
from PIL import Image
from scipy.special import logit
from torch import Tensor, nn

import sspl as sspl_package
from sspl.cli.main import cli
from sspl.data.data_settings import DataSettings
from sspl.data.images import Box
from sspl.data.records import FaceSet
from sspl.data.synthetic.render import render_face
from sspl.domain.attributes import AttributeSchema
from sspl.domain.taxonomy import Taxonomy, built_in_taxonomy
from sspl.errors import SsplError
from sspl.inference.scorers import TorchScorer
from sspl.models.backbones.base import Backbone
from sspl.models.bundle import AttributeModel
from sspl.models.network_settings import (
    Architecture,
    BackboneSettings,
    HeadSettings,
    SegmentationSettings,
)
from sspl.models.splnet import AnyAttributeNetwork, build_attribute_network
from sspl.tasks import PretextTask, TaskContext
from sspl.tasks.loading import build_tasks
from sspl.training.attribute_network import freeze_statistics, parameter_groups
from sspl.training.pretext_network import task_context
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings

SCHEMA: Final = AttributeSchema(("Smiling", "Eyeglasses", "Big_Nose"), ("whole", "upper", "middle"))
OTHER_TASKS: Final = ("rotnet", "location", "simclr", "byol", "colourise", "masked")
"""Tasks of other papers."""
CANVAS: Final = 40
INPUT_SIZE: Final = 32
BOX: Final[Box] = (0.05, 0.1, 0.95, 1.0)
TINY: Final = (
    "canvas=48", "input_size=32", "backbone.width=0.125", "backbone.stem_stride=2",
    "optim.batch_size=16", "runtime.precision=fp32",
)  # fmt: skip
"""Settings of either stage with which a few drawn faces are learnt in a second."""
TINIER: Final = (*TINY, "canvas=40", "backbone.width=0.05", "optim.batch_size=8")
"""Where nothing need be learnt."""


def sspl(*arguments: object) -> Result:
    """Run a command that must succeed."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def refused(*arguments: object) -> str:
    """Run a command that must be refused; return the sentence."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert isinstance(result.exception, SsplError), (result.output, result.exception)
    sentence = str(result.exception)
    assert "\n" not in sentence
    return sentence


def ran_with(
    folder: Path, added: Path, into: str, listed: str, lines: dict[str, str], code: str
) -> str:
    """Return what code prints with a copy of the package that has one more file.

    `added` is put into a package, and in the file `listed` texts are replaced by others.
    """
    package = folder / "sspl"
    shutil.copytree(Path(sspl_package.__file__).parent, package)
    shutil.copy(added, package / into)
    text = (package / listed).read_text(encoding="utf-8")
    for old, new in lines.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    (package / listed).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def thirty_pictures(folder: Path) -> Path:
    """Write small pictures of thirty shades, 00.png to 29.png; return the folder."""
    for i in range(30):
        Image.new("RGB", (40, 40), (8 * i, 40, 40)).save(folder / f"{i:02d}.png")
    return folder


@contextmanager
def labelling(
    folder: Path, out: Path, attributes: Sequence[str], errors: int = subprocess.DEVNULL
) -> Iterator[tuple["subprocess.Popen[str]", str, str]]:
    """`sspl label` in a process of its own: the process, its address and the key."""
    command = [
        sys.executable, "-m", "sspl", "label", str(folder), "--attributes", ",".join(attributes),
        "--out", str(out), "--port", "0",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as server:
        assert server.stdout is not None
        address, _, key = server.stdout.readline().split()[1].partition("#")
        try:
            yield server, address, key
        finally:
            server.terminate()
            server.wait(60)


def learn(stage: str, data: object, out: Path, *more: object) -> Result:
    """Run a stage with the preset `demo`."""
    return sspl(stage, "--preset", "demo", "--data", data, "--out", out, *more)


def draw_faces(folder: Path, count: int, seed: int, size: int = 48) -> Path:
    """Draw faces in CelebA's layout; return their folder."""
    sspl("data", "synthetic", folder / "faces", "--count", count, "--seed", seed, "--size", size)
    return folder / "faces"


def open_faces(kind: str, root: Path, **options: Any) -> FaceSet:
    """Read a set of faces with these settings."""
    return DataSettings(format=kind, root=root, **options).read()


def import_file(path: Path) -> ModuleType:
    """Import a Python file that is no part of the package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class FixedHead(nn.Module):
    """A segmentation head whose logits are given from outside."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.logits


def changed_by_a_step(network: AnyAttributeNetwork, freeze: int, size: int) -> set[str]:
    """Train one step on what `freeze` leaves free; return the names of tensors that changed."""
    network.train()
    groups = parameter_groups(network, FinetuneSettings(freeze=freeze))
    freeze_statistics(network, freeze)
    before = {n: t.clone() for n, t in network.state_dict().items()}
    optimiser = torch.optim.SGD([p for group, _ in groups for p in group], lr=1.0)
    network(torch.randn(4, 3, size, size)).square().sum().backward()
    optimiser.step()
    return {n for n, t in network.state_dict().items() if not torch.equal(t, before[n])}


def make_model(architecture: Architecture, flip_average: bool) -> AttributeModel:
    """A random network whose probabilities differ well from face to face.

    `sspl` pools by region, from a finer segmentation that needs anti-aliasing.
    """
    torch.manual_seed(1)
    head = HeadSettings(pooling="regions" if architecture == "sspl" else "average", region_map=4)
    network = build_attribute_network(
        architecture,
        BackboneSettings(width=0.125, stem_stride=2),
        head,
        SCHEMA,
        SegmentationSettings(maps=3, width=8),
        ("background", "skin", "hair"),
    ).eval()
    model = AttributeModel(
        network,
        SCHEMA,
        BOX,
        CANVAS,
        INPUT_SIZE,
        flip_average,
        np.full(3, 0.5),
        np.array([0.5, 1.0, 2.0]),
    )
    plain = TorchScorer(replace(model, temperatures=np.ones(3)), torch.device("cpu"), "fp32")
    logits = torch.from_numpy(logit(plain.probabilities(drawn(16)))).float()
    mean, spread = logits.mean(0), logits.std(0)
    with torch.no_grad():
        for layer, places in _heads(network):
            layer.bias.copy_(-mean[places] / spread[places])
            layer.weight.div_(spread[places, None])
    return model


def _heads(network: AnyAttributeNetwork) -> list[tuple[nn.Linear, list[int]]]:
    """Return the linear layers that give logits, each with the places of its attributes."""
    if isinstance(network.head, nn.Linear):
        return [(network.head, [0, 1, 2])]
    groups = network.head.groups
    return [(network.head[region], list(groups[region])) for region in groups]


def drawn(count: int, start: int = 0) -> np.ndarray:
    """Return synthetic faces as canvases, uint8 (count, c, c, 3)."""
    return np.stack([render_face(9, start + i, CANVAS).image for i in range(count)])


def post(address: str, key: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Send a request to the labelling page, as its script does."""
    request = urllib.request.Request(
        address + path, json.dumps(body).encode(), {"X-Sspl-Key": key}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


class Widths:
    """All that most tasks look at of a backbone."""

    def __init__(self, *widths: int) -> None:
        self.widths = widths


def context(
    *widths: int,
    backbone: Backbone | None = None,
    taxonomy: Taxonomy | None = None,
    input_size: int = 32,
    architecture: Architecture = "sspl",
    head_width: int = 8,
) -> TaskContext:
    """What a task is built with, around a backbone or the widths of one."""
    return TaskContext(
        backbone or Widths(*widths),  # type: ignore[arg-type]
        taxonomy or built_in_taxonomy("celebamask19"),
        input_size,
        architecture,
        SegmentationSettings(width=head_width),
    )


def tasks_of(settings: PretrainSettings, backbone: Backbone) -> dict[str, PretextTask]:
    """The tasks that settings name, on a backbone."""
    taxonomy = built_in_taxonomy("celebamask19")
    return build_tasks(settings.tasks, settings.task, task_context(settings, backbone, taxonomy))

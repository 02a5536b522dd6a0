"""A backbone of the user's own, and that opening a model never runs code that was not named."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from shared import refused, sspl
from sspl.cli.main import cli
from sspl.errors import SettingsError
from sspl.io import user_code
from sspl.io.user_code import forget, trust
from sspl.models import BackboneSettings, build_backbone
from sspl.models.bundle import load_model
from sspl.settings import build

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "backbone.py"
TINY = (
    "canvas=40", "input_size=32", "backbone.width=0.05", "backbone.stem_stride=2",
    "optim.batch_size=8", "optim.epochs=1", "runtime.precision=fp32",
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`own.py`, which leaves `ran` beside it when it is run, `faces`, and runs of both stages."""
    root = tmp_path_factory.mktemp("own")
    code = f"from pathlib import Path\nPath({str(root / 'ran')!r}).touch()\n"
    (root / "own.py").write_text(code + EXAMPLE.read_text())
    sspl("data", "synthetic", root / "faces", "--count", 24, "--seed", 2, "--size", 40)
    learn = ("--preset", "demo", "--data", f"celeba:{root / 'faces'}", *TINY)
    own = ("--backbone", f"{root / 'own.py'}:Plain")
    task = ("tasks=[prt]", "task.prt.patch_size=32")
    sspl("pretrain", *learn, *own, *task, "--out", root / "pre")
    sspl(
        "finetune",
        *learn,
        *own,
        "--from",
        root / "pre",
        "--out",
        root / "fine",
        "head.pooling=average",
    )
    (root / "ran").unlink()
    return root


@pytest.fixture
def pinned() -> Iterator[str]:
    pinned = trust(f"{EXAMPLE}:Plain")
    yield pinned
    forget(pinned)


def test_the_example_is_short_and_gives_what_a_backbone_must(pinned: str) -> None:
    assert EXAMPLE.read_text().count("\n") <= 60
    backbone = build_backbone(BackboneSettings(own=pinned, width=0.25))
    assert type(backbone).__name__ == "Plain"
    assert backbone.training
    shapes = [tuple(m.shape) for m in backbone(torch.zeros(2, 3, 64, 48))]
    assert shapes == [(2, 16, 16, 12), (2, 32, 8, 6), (2, 64, 4, 3), (2, 128, 2, 2)]
    held = [p for part in backbone.parts() for p in part.parameters()]
    assert {id(p) for p in held} == {id(p) for p in backbone.parameters()}
    assert len(held) == len(set(map(id, held)))


def test_a_model_says_which_code_it_needs_and_never_where_it_was(root: Path) -> None:
    pinned = trust(f"{root / 'own.py'}:Plain")
    assert load_model(root / "fine").network.backbone_settings.own == pinned
    forget(pinned)
    assert pinned.startswith("own.py:Plain@")
    for file in ("pre/settings.yaml", "fine/settings.yaml"):
        text = (root / file).read_text()
        assert pinned in text
        assert str(root / "own.py") not in text


@pytest.mark.parametrize("command", ["evaluate", "predict", "model pack", "report", "finetune"])
def test_no_command_runs_code_by_opening_a_model(
    root: Path, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the file lies at hand under its name."""
    monkeypatch.chdir(root)
    (root / "ran").unlink(missing_ok=True)
    run, out = Path(shutil.copytree(root / "fine", tmp_path / "fine")), tmp_path / "out"
    shutil.copy(root / "own.py", run)
    arguments = {
        "evaluate": (run, "--resamples", 0),
        "predict": (run, root / "faces/img_align_celeba", "--out", tmp_path / "p.csv"),
        "model pack": (run, "--out", out),
        "report": (root / "pre", "--out", tmp_path / "r.html"),
        "finetune": ("--out", out, "--settings", run / "settings.yaml"),
    }[command]
    sentence = refused(*command.split(), *arguments)
    digest = user_code.hashlib.sha256((root / "own.py").read_bytes()).hexdigest()
    assert f"needs own.py:Plain with SHA-256 {digest}" in sentence
    assert "add --backbone own.py:Plain" in sentence
    assert not (root / "ran").exists()
    (root / "own2.py").write_text((root / "own.py").read_text() + "\n")
    sentence = refused(*command.split(), *arguments, "--backbone", "own2.py:Plain")
    if command != "finetune":  # there it is learnt with
        assert "own2.py has " in sentence
        assert not (root / "ran").exists()
    sspl(*command.split(), *arguments, "--backbone", "own.py:Plain")
    assert (root / "ran").exists()
    assert not user_code._trusted


def test_a_packed_model_needs_it_too(root: Path, tmp_path: Path) -> None:
    own = ("--backbone", f"{root / 'own.py'}:Plain")
    sspl("model", "pack", root / "fine", "--out", tmp_path / "packed", *own)
    assert not list((tmp_path / "packed").glob("*.py"))
    config = json.loads((tmp_path / "packed/config.json").read_text())
    assert config["backbone"]["own"].startswith("own.py:Plain@")
    pictures = root / "faces/img_align_celeba"
    predict = ("predict", tmp_path / "packed", pictures, "--out", tmp_path / "p.csv")
    assert "needs own.py:Plain" in refused(*predict)
    sspl(*predict, *own)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("x = 1", "no such class derived from Backbone"),
        ("class Mine: ...", "no such class derived from Backbone"),
        (
            "widths = (2, 4, 8, 16)\n    def forward(self, x): return [x] * 4",
            "its maps have shapes",
        ),
        ("widths = (3,)\n    def forward(self, x): return [x]", "it must give four"),
        ("def forward(self, x): return self.net(x)", "cannot take a picture of 64 px"),
    ],
)
def test_a_class_that_is_none_is_refused(body: str, reason: str, tmp_path: Path) -> None:
    head = "from sspl.models.backbones.base import Backbone\n"
    if "def" in body:
        body = (
            f"class Mine(Backbone):\n    def __init__(self, settings): super().__init__()\n"
            f"    def parts(self): return []\n    {body}"
        )
    (tmp_path / "mine.py").write_text(head + body + "\n")
    pinned = trust(f"{tmp_path / 'mine.py'}:Mine")
    with pytest.raises(SettingsError, match=f"--backbone mine.py:Mine.*{reason}"):
        build_backbone(BackboneSettings(own=pinned))
    forget(pinned)


@pytest.mark.parametrize("text", ["none.py:Mine", "mine.py", "mine:Mine", "x@y.py:Mine", "a.py:1"])
def test_what_names_no_file_is_refused_before_any_work(text: str) -> None:
    result = CliRunner().invoke(cli, ["evaluate", ".", "--backbone", text], standalone_mode=False)
    assert isinstance(result.exception, click.BadParameter)


@pytest.mark.parametrize("own", ["mine.py:Mine", "/x/mine.py:Mine@" + 64 * "0", "mine.py:Mine@0"])
def test_settings_hold_no_path_and_no_code_without_its_hash(own: str) -> None:
    with pytest.raises(SettingsError, match="own"):
        build(BackboneSettings, {"own": own})


def test_two_backbones_are_one_too_many(pinned: str) -> None:
    with pytest.raises(SettingsError, match=r"timm and --backbone name two"):
        build(BackboneSettings, {"own": pinned, "timm": "net"})

"""What the shell completes, as the shell asks for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sspl.cli.main import cli


def completed(*words: str) -> list[str]:
    """Return what is offered for the last of the words."""
    environment = {"_SSPL_COMPLETE": "bash_complete", "COMP_CWORD": str(len(words) - 1)}
    environment["COMP_WORDS"] = " ".join(words)
    result = CliRunner().invoke(cli, prog_name="sspl", env=environment)
    return [line.partition(",")[2] for line in result.output.split()]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("sspl", "pretrain", "--preset", "sm"), ["small"]),
        (("sspl", "pretrain", "task.prt.g"), ["task.prt.grid="]),
        (("sspl", "finetune", "optim.e"), ["optim.epochs="]),
        (("sspl", "parser", "train", "a", "b", "model."), ["model.width="]),
        (("sspl", "benchmark", "--config", "c"), ["celeba10k"]),
        (("sspl", "benchmark", "keep"), ["keep_models="]),
        (("sspl", "label", "faces", "--attributes", "Ey"), ["Eyeglasses"]),
        (("sspl", "suggest", "faces", "--attributes", "Eyeglasses,Sm"), ["Eyeglasses,Smiling"]),
        (("sspl", "label", "faces", "--attributes", "Eyeglasses,Ey"), []),
    ],
)  # fmt: skip
def test_completions(words: tuple[str, ...], offered: list[str]) -> None:
    assert completed(*words) == offered


@pytest.mark.parametrize("file", ["metrics.json", "config.json"])
def test_thresholds_complete_by_the_run(file: str, tmp_path: Path) -> None:
    names = {"Smiling": [1, 2], "Hat": [1, 2]}
    content = {"metrics.json": {"label_counts": names}, "config.json": {"attributes": names}}
    (tmp_path / file).write_text(json.dumps(content[file]))
    assert completed("sspl", "model", "decide", str(tmp_path), "S") == ["Smiling="]
    assert completed("sspl", "model", "decide", str(tmp_path / "gone"), "S") == []


def test_completing_loads_no_torch() -> None:
    code = (
        "import sys\nfrom sspl.cli.main import cli\n"
        "try:\n    cli(prog_name='sspl')\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules)"
    )
    environment = {"_SSPL_COMPLETE": "bash_complete", "COMP_WORDS": "sspl pretrain optim.e"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "COMP_CWORD": "2", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["plain,optim.epochs=", "False"]

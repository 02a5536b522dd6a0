"""The losses of the first steps of both stages, on drawn faces, one thread and float32.

    python -m tests.robustness.losses

writes them to `losses.json`, which `test_losses_of_the_first_steps` holds every version to. Run it
when what is learnt was changed on purpose, and say so in the commit.
"""

import json
import tempfile
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import torch
from torch import Tensor

from sspl.cli.main import cli
from sspl.training import loop

FILE: Final = Path(__file__).with_name("losses.json")
STEPS: Final = 20
TINY: Final = (
    "canvas=40", "input_size=32", "backbone.width=0.1", "backbone.stem_stride=2",
    "optim.batch_size=8", "optim.epochs=20", "runtime.precision=fp32", "runtime.device=cpu",
    "runtime.deterministic=true",
)  # fmt: skip


class EnoughError(Exception):
    """The steps that were asked for have been made."""


def losses_of(*arguments: object) -> list[float]:
    """Return the losses of the first steps of a command, which is then cut short."""
    found: list[float] = []
    original = loop.back_propagate

    def recorded(loss: Tensor, *more: Any) -> None:
        found.append(float(loss.detach()))
        if len(found) == STEPS:
            raise EnoughError
        original(loss, *more)

    with patch.object(loop, "back_propagate", recorded):
        try:
            cli.main([str(a) for a in arguments], standalone_mode=False)
        except EnoughError:
            return found
    raise SystemExit(f"{arguments[0]} made fewer than {STEPS} steps")


def first_losses() -> dict[str, list[float]]:
    """Return the losses of the first steps of stage 1 and of stage 2."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            faces = Path(folder) / "faces"
            draw = ("data", "synthetic", faces, "--count", 40, "--seed", 4, "--size", 40)
            cli.main([str(a) for a in draw], standalone_mode=False)
            data, masks = f"celeba:{faces}", faces / "masks"
            return {
                "pretrain": losses_of(
                    "pretrain",
                    "--preset",
                    "demo",
                    "--data",
                    f"{data},masks={masks}",
                    "--out",
                    Path(folder) / "pre",
                    *TINY,
                    "task.prt.patch_size=32",
                    "task.prt.grid=2",
                ),
                "finetune": losses_of(
                    "finetune",
                    "--preset",
                    "demo",
                    "--data",
                    data,
                    "--from",
                    "none",
                    "--labels",
                    20,
                    "--out",
                    Path(folder) / "fine",
                    *TINY,
                ),
            }
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    rounded = {k: [round(v, 6) for v in losses] for k, losses in first_losses().items()}
    FILE.write_text(json.dumps(rounded, indent=2) + "\n")

"""How much of the package one step of stage 1 passes through, from its faces' files to new weights.

Counted are functions by name and file; comprehensions, which later Pythons do without a frame of
their own, are part of the function they stand in. docs/architecture.md says why there are so many.
"""

import re
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import sspl
from sspl.data.data_settings import DataSettings
from sspl.data.synthetic import write_synthetic
from sspl.settings import build
from sspl.training.loop import Loop, Place
from sspl.training.pretrain import Pretraining
from sspl.training.stage_settings import PretrainSettings, preset

ROOT = Path(sspl.__file__).resolve().parent
PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
TITLE = "## What a step of stage 1 passes"
TINY = (
    "canvas=40", "input_size=32", "backbone.width=0.1", "backbone.stem_stride=2",
    "optim.batch_size=8", "runtime.precision=fp32", "runtime.device=cpu", "task.prt.patch_size=32",
    "task.prt.grid=2",
)  # fmt: skip


def passed(loop: Loop[Any]) -> set[tuple[str, str]]:
    """Return file and name of each of our functions that the first step enters."""
    found = set()

    def seen(frame: FrameType, event: str, _: object) -> None:
        file = Path(frame.f_code.co_filename)
        if (
            event == "call"
            and file.is_relative_to(ROOT)
            and not frame.f_code.co_name.startswith("<")
        ):
            found.add((str(file.relative_to(ROOT)), frame.f_code.co_qualname))

    source = loop.stage.epoch(0, 0)
    before = sys.getprofile()
    sys.setprofile(seen)
    threading.setprofile(seen)
    try:
        loop.step(Place(0, 0, len(source.steps), 0, source.steps[0]), source.batches)
    finally:
        sys.setprofile(before)
        threading.setprofile(before)
    return found


@pytest.mark.parametrize(
    ("cache_gb", "most_files", "most_functions"), [(1, 21, 80), (0, 28, 109)], ids=["kept", "read"]
)
def test_a_step_of_stage_1_passes_few_files_and_functions(
    cache_gb: int,
    most_files: int,
    most_functions: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Faces that fit the cache are kept as canvases; without it each step reads their files."""
    faces = tmp_path / "faces"
    write_synthetic(faces, 16, 4, 40)
    data = DataSettings(format="celeba", root=faces, masks=faces / "masks")
    content = preset("demo", "pretrain") | {"data": [data.model_dump()]}
    run = Pretraining(build(PretrainSettings, content, (*TINY, f"runtime.cache_gb={cache_gb}")))
    run.open(tmp_path / "run", resume=False)
    weights = list(run.network.parameters())
    before = [w.detach().clone() for w in weights]
    found = passed(Loop(run, tmp_path / "run"))
    assert any(
        not torch.equal(*pair) for pair in zip(before, run.network.parameters(), strict=True)
    )
    files = {file for file, _ in found}
    section = PAGE.read_text(encoding="utf-8").partition(TITLE)[2].partition("\n## ")[0]
    named = set(re.findall(r"`([\w/]+\.py)`", section))
    assert files <= named - {"examples/stage1.py"}
    assert cache_gb or files == named - {"examples/stage1.py"}
    with capsys.disabled():
        print(
            f"\na step of stage 1 ({cache_gb} GB kept): {len(files)} files, {len(found)} functions"
        )
    assert {
        ("training/loop.py", "Loop.step"),
        ("training/pretext_network.py", "make_views"),
    } <= found
    assert len(files) <= most_files
    assert len(found) <= most_functions

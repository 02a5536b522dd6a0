"""What the weights in the package are worth, on drawn faces that they have not seen."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import Field

from sspl.data.data_settings import DataSettings
from sspl.data.images import read_image
from sspl.data.synthetic import write_synthetic
from sspl.demo.figure import draw_demo
from sspl.evaluation.comparison import (
    SCRATCH,
    ArmResult,
    comparison_table,
    run_arm,
    write_comparison,
)
from sspl.evaluation.predictions import Predictions, load_predictions, predictions_file
from sspl.io.files import LOCK_FILE, write_text
from sspl.parsing.commands import open_parser
from sspl.reporting.picture import require_matplotlib
from sspl.settings import Settings
from sspl.training.inheriting import finetune_settings
from sspl.weights import BUILT_IN

FROM_WEIGHTS: Final = "from the weights"
ARMS: Final[Mapping[str, tuple[Path | None, str]]] = {
    SCRATCH: (None, "from-scratch"),
    FROM_WEIGHTS: (Path(BUILT_IN), "built-in"),
}
"""What each arm starts from, and its folder."""

SIZE: Final = 112
"""Side in px of the faces: the canvas of preset `small`."""

log = logging.getLogger(__name__)


class DemoSettings(Settings):
    """Size of the demo; the defaults take less than four minutes on two cores.

    The weights have learnt from faces of another seed and another style.
    """

    seed: int = Field(7, ge=0)
    faces: int = Field(1000, ge=100)
    labels: int = Field(100, ge=10)
    subsets: int = Field(1, ge=1, description="label subsets, each drawn by a seed of its own")
    epochs: int = Field(20, ge=1)


def run_demo(settings: DemoSettings, out: Path) -> dict[str, ArmResult]:
    """Run everything into `out`, with a table and a picture; return what both arms came to.

    Raises `SsplError` when `out` holds an earlier demo, or the picture cannot be drawn.
    """
    require_matplotlib()
    data = DataSettings(format="celeba", root=out / "faces")
    log.info("1/3 draw %d faces, in a style that the weights have not seen", settings.faces)
    write_synthetic(out / "faces", settings.faces, settings.seed, SIZE)
    log.info("2/3 learn from %d labels, from scratch and from the weights", settings.labels)
    given = {
        "seed": settings.seed,
        "data": data.model_dump(mode="json"),
        "pretrained": BUILT_IN,
        "optim": {"epochs": settings.epochs},
        "evaluate_every": 5,
        "select_by": "accuracy",
    }
    # From scratch the same network learns by the same settings.
    content = finetune_settings("small", given).model_dump(mode="json")
    results = {
        arm: run_arm(content, data, source, settings.labels, settings.subsets, out / folder)
        for arm, (source, folder) in ARMS.items()
    }
    log.info("3/3 compare on the test faces")
    write_comparison(out / "comparison.csv", results)
    write_text(out / "comparison.txt", comparison_table(results, settings.labels) + "\n")
    _draw(out, data, results, settings.labels)
    return results


def _draw(out: Path, data: DataSettings, results: dict[str, ArmResult], labels: int) -> None:
    said: dict[str, Predictions] = {
        arm: load_predictions(predictions_file(out / folder / "subset-0", "test"))
        for arm, (_, folder) in ARMS.items()
    }
    faces = data.open().split("test")
    pictures = [np.asarray(read_image(face.image)) for face in faces]
    draw_demo(out / "comparison.png", pictures, open_parser(BUILT_IN), said, results, labels)


def clear(out: Path) -> None:
    """Empty an earlier demo's folder; only one that holds a demo's faces is touched."""
    if not (out / "faces" / "list_attr_celeba.txt").is_file():
        return
    for path in out.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK_FILE:
            path.unlink()

"""Make the weights that come with the package, from nothing: faces, stage 1, heads, half precision.

    python -m tools.weights --work FOLDER      # or: make weights

FOLDER keeps the drawn faces and the run, and what is there is not made again: an interrupted run
goes on. The same seed draws the same faces. The result goes to src/sspl/weights.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import click
import torch
import yaml

from sspl.data.data_settings import parse_data_spec
from sspl.data.synthetic import write_synthetic
from sspl.io.files import write_json
from sspl.io.run_files import PRETRAINED_FILE, finished
from sspl.io.runs import versions
from sspl.io.weights import load_tensors, save_tensors
from sspl.settings import build, merge
from sspl.training.pretrain import pretrain
from sspl.training.ready_heads import add_ready_heads, ready_heads_of
from sspl.training.stage_settings import PretrainSettings, preset
from sspl.weights import BUILT_IN_FILE

RECIPE: Final = Path(__file__).with_name("weights.yaml")


def draw(out: Path, faces: dict[str, Any]) -> None:
    """Draw the faces unless they are all there: their lists are written last."""
    if not (out / "list_attr_celeba.txt").exists():
        write_synthetic(out, faces["count"], faces["seed"], faces["size"], "photo")


def learn(faces: Path, run: Path, recipe: dict[str, Any]) -> None:
    """Run stage 1, or go on with it."""
    data = {"format": "celeba", "root": str(faces.absolute()), "masks": str(faces / "masks")}
    given = recipe | {"data": [data], "splits": ["train", "val", "test"]}
    if not finished(run):
        settings = build(PretrainSettings, merge(preset("small", "pretrain"), given))
        pretrain(settings, run, resume=(run / "settings.yaml").exists())


def head(faces: Path, run: Path) -> None:
    """Fit heads for the attributes of the drawn faces, unless the run has them."""
    if ready_heads_of(run) is None:
        data = parse_data_spec(f"celeba:{faces}")
        found = data.open()
        add_ready_heads(run, found, data.box_of(found), torch.device("cpu"))


def keep(run: Path, faces: dict[str, Any], out: Path = BUILT_IN_FILE) -> None:
    """Write the weights in half precision, and beside them what they are."""
    tensors, metadata = load_tensors(run / PRETRAINED_FILE)
    half = {n: t.half() if t.dtype == torch.float32 else t for n, t in tensors.items()}
    save_tensors(out, half, metadata | {"drawn": faces})
    log = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    content = out.read_bytes()
    write_json(
        out.with_suffix(".json"),
        {
            "file": out.name,
            "bytes": len(content),
            "sha256": sha256(content).hexdigest(),
            "drawn": faces,
            "last_epoch": log,
            "versions": versions(),
        },
    )


@click.command()
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), required=True)
def main(work: Path) -> None:
    """Make the weights in the folder WORK and put them into the package."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    faces = recipe.pop("drawn")
    draw(work / "faces", faces)
    learn(work / "faces", work / "run", recipe)
    head(work / "faces", work / "run")
    keep(work / "run", faces)


if __name__ == "__main__":
    main()

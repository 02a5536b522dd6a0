"""The whole method on synthetic faces: data, parser, masks, both stages, evaluation, picture."""

import logging
import shutil
from pathlib import Path

from pydantic import Field

from sspl.data.data_settings import DataSettings
from sspl.data.synthetic import write_synthetic
from sspl.demo.figure import draw_comparison
from sspl.evaluation.comparison import (
    PRETRAINED,
    SCRATCH,
    ArmResult,
    comparison_table,
    run_arm,
    write_comparison,
)
from sspl.io.files import LOCK_FILE, write_text
from sspl.parsing.commands import train_and_test
from sspl.parsing.masks import make_masks
from sspl.parsing.model import load_parser
from sspl.parsing.network_parser import NetworkParser
from sspl.parsing.parser_settings import ParserModelSettings, ParserSettings
from sspl.reporting.picture import require_matplotlib
from sspl.settings import Settings, build, merge
from sspl.training.pretrain import pretrain
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings, preset

log = logging.getLogger(__name__)


class DemoSettings(Settings):
    """Size of the demo; the defaults take a few minutes on two cores."""

    seed: int = Field(0, ge=0)
    faces: int = Field(2500, ge=100)
    size: int = Field(64, ge=64, le=1024, multiple_of=32)
    parser_pairs: int = Field(30, ge=1)
    parser_steps: int = Field(600, ge=1)
    labels: int = Field(100, ge=10)
    subsets: int = Field(3, ge=1, description="label subsets, each drawn by a seed of its own")
    pretrain_epochs: int | None = Field(None, ge=1)
    finetune_epochs: int | None = Field(None, ge=1)


def run_demo(settings: DemoSettings, out: Path) -> dict[str, ArmResult]:
    """Run everything into `out`, with a table and a picture; return what both arms came to.

    Raises `SsplError` when `out` holds an earlier demo, or the picture cannot be drawn.
    """
    require_matplotlib()
    faces = out / "faces"
    log.info("1/5 draw %d synthetic faces", settings.faces)
    write_synthetic(faces, settings.faces, settings.seed, settings.size)
    log.info("2/5 train a face parser on %d masks, parse all faces", settings.parser_pairs)
    masks = _parse(settings, out)
    log.info("3/5 pre-train on the unlabelled training faces")
    data = DataSettings(format="celeba", root=faces, masks=masks)
    content = merge(
        preset("demo", "pretrain"), {"seed": settings.seed, "data": [data.model_dump()]}
    )
    pretrain(build(PretrainSettings, content, _epochs(settings.pretrain_epochs)), out / "pretrain")
    log.info("4/5 fine-tune on %d labels, without and with pre-training", settings.labels)
    plain = data.model_copy(update={"masks": None})
    stage2 = build(FinetuneSettings, preset("demo", "finetune"), _epochs(settings.finetune_epochs))
    content = stage2.model_dump(mode="json") | {"seed": settings.seed, "select_by": "accuracy"}
    results = {
        arm: run_arm(content, plain, source, settings.labels, settings.subsets, out / folder)
        for arm, source, folder in (
            (SCRATCH, None, "from-scratch"),
            (PRETRAINED, out / "pretrain", "pre-trained"),
        )
    }
    log.info("5/5 compare on the test faces")
    names = plain.open().schema.names
    write_comparison(out / "comparison.csv", results)
    draw_comparison(out / "comparison.png", faces, masks, names, results, settings.labels)
    table = comparison_table(results, settings.labels)
    write_text(out / "comparison.txt", table + "\n")
    return results


def _epochs(epochs: int | None) -> tuple[str, ...]:
    return () if epochs is None else (f"optim.epochs={epochs}",)


def _parse(settings: DemoSettings, out: Path) -> Path:
    """Train the parser on a few of the exact masks, then forget those and parse every face."""
    faces = out / "faces"
    parser_settings = ParserSettings(
        seed=settings.seed,
        pairs=settings.parser_pairs,
        size=settings.size,
        view=settings.size,
        steps=settings.parser_steps,
        batch_size=16,
        model=ParserModelSettings(width=0.25),
    )
    pictures = faces / "img_align_celeba"
    train_and_test(pictures, faces / "masks", None, None, parser_settings, out / "parser")
    masks = out / "masks"
    parser = NetworkParser(load_parser(out / "parser"), average=False)
    make_masks(parser, DataSettings(format="folder", root=pictures).open(), masks, 64)
    return masks


def clear(out: Path) -> None:
    """Empty an earlier demo's folder; only one that holds a demo's faces is touched."""
    if not (out / "faces" / "list_attr_celeba.txt").is_file():
        return
    for path in out.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK_FILE:
            path.unlink()

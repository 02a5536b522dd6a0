"""What `sspl parser` does: folders in, run folders and masks out."""

from pathlib import Path
from typing import Any

import torch

from sspl.domain.taxonomy import Taxonomy, load_taxonomy
from sspl.errors import DataError
from sspl.files import write_json
from sspl.parsing.model import MODEL_FILE, Parser, load_parser, save_parser
from sspl.parsing.pairs import MaskPairs, draw_training_pairs, find_pairs, load_pairs
from sspl.parsing.report import parser_figures, parser_table
from sspl.parsing.training import ParserSettings, evaluate_parser, mirror_ids, train_parser
from sspl.runs import start_run, write_metrics


def train_and_test(
    images: Path, masks: Path, classes: str | None, split_file: Path | None,
    settings: ParserSettings, out: Path,
) -> str:  # fmt: skip
    """Train a parser, test it on the held-out pairs, write the run folder; return the table."""
    taxonomy = load_taxonomy(settings.taxonomy)
    source = load_taxonomy(classes) if classes else taxonomy
    pairs = find_pairs(images, masks, split_file)
    chosen = pairs.split("train")
    if settings.pairs is not None:
        chosen = draw_training_pairs(chosen, settings.pairs, settings.seed)
    canvases = load_pairs(chosen, source, taxonomy, settings.size, "read training pairs")
    # A run that was cut short left no model and may start again.
    start_run(out, "parser", settings, settings.seed, resume=not (out / MODEL_FILE).exists())
    training = train_parser(*canvases, taxonomy, settings)
    save_parser(out, Parser(training.network, taxonomy, settings.size), settings.model)
    confusion = _confusion(training.network, pairs, source, taxonomy, taxonomy, settings)
    figures = parser_figures(confusion, taxonomy)
    figures |= {"training_pairs": list(chosen.names), "seconds": round(training.seconds, 1)}
    write_metrics(out, training.log, figures)
    return parser_table(figures)


def _confusion(
    network: Any, pairs: MaskPairs, source: Taxonomy, own: Taxonomy, judge: Taxonomy,
    settings: ParserSettings,
) -> torch.Tensor:  # fmt: skip
    held_out = pairs.split("test")
    images, masks = load_pairs(held_out, source, judge, settings.size, "read test pairs")
    table = torch.from_numpy(judge.remap_table(own)).long()
    mirror = mirror_ids(own)
    return evaluate_parser(network, images, masks, table, len(judge), mirror, settings)


def test_on(
    model: Path, images: Path, masks: Path, classes: str | None, judge_by: str | None,
    split_file: Path | None, only: str, out: Path | None,
) -> str:  # fmt: skip
    """Test a parser on another set of pairs; return the table.

    The masks' classes and the parser's are both remapped by name to `judge_by`.
    """
    parser = load_parser(model)
    judge = load_taxonomy(judge_by) if judge_by else parser.taxonomy
    source = load_taxonomy(classes) if classes else judge
    pairs = find_pairs(images, masks, split_file)
    if only:
        pairs = pairs.select([i for i, n in enumerate(pairs.names) if n.startswith(only)])
        if not len(pairs):
            raise DataError(f"no pair's name starts with '{only}'.")
    settings = ParserSettings(size=parser.size)
    confusion = _confusion(parser.network, pairs, source, parser.taxonomy, judge, settings)
    figures = parser_figures(confusion, judge)
    if out:
        write_json(out, figures)
    return parser_table(figures)

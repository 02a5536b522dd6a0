"""`sspl probe`."""

import logging
import time
from pathlib import Path
from typing import Any

import click

from sspl.cli.options import DataCommand, ending, json_option, overrides_of, say, settings_file
from sspl.cli.values import Finite, at_least, folder_out, seed_value


@click.command(cls=DataCommand)
@overrides_of("probe")
@click.option(
    "--features",
    multiple=True,
    help="A frozen network: net.onnx[,size=224,channels=bgr,mean=..,scale=..], FILE.py:FUNCTION, "
    "a run folder, or 'builtin'; repeatable.",
)
@click.option("--data", "spec", help="FORMAT:PATH[,crop=celeba] of the labelled faces.")
@click.option("--out", type=folder_out, required=True, help="Run folder to make.")
@click.option("--labels", type=at_least(1), help="How many labelled faces to use.")
@click.option(
    "--fraction", type=Finite(0, 1, min_open=True), help="Which share of the training faces to use."
)
@click.option("--subset-seed", type=seed_value, help="Seed of the choice of labelled faces.")
@settings_file
@json_option
def probe(
    overrides: tuple[str, ...],
    features: tuple[str, ...],
    spec: str | None,
    out: Path,
    labels: int | None,
    fraction: float | None,
    subset_seed: int | None,
    settings_file: Path | None,
    as_json: bool,
) -> None:
    """Learn attributes as linear heads on what frozen networks say of the faces.

    Features are computed once and kept in features/ beside the run folder; remove it when you have
    done. Settings follow as key=value; 'sspl settings probe' lists them. ONNX files need
    pip install '.[export]'.
    """
    from sspl.data.data_settings import parse_data_spec
    from sspl.settings import build, merge, read_settings
    from sspl.training.probe_run import probe as run
    from sspl.training.stage_settings import ProbeSettings

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    subset = {"count": labels, "fraction": fraction, "subset_seed": subset_seed}
    given: dict[str, Any] = {"labels": {k: v for k, v in subset.items() if v is not None}}
    if features:
        given["features"] = list(features)
    if spec is not None:
        given["data"] = parse_data_spec(spec).absolute().model_dump()
    content = {} if settings_file is None else read_settings(settings_file)
    begun = time.monotonic()
    summary = run(build(ProbeSettings, merge(content, given), overrides), out)
    following = f"sspl evaluate {out} --split test"
    text = ending(summary["best"], out, time.monotonic() - begun, following)
    say(text, summary, as_json)

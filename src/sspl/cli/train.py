"""`sspl pretrain` and `sspl finetune`."""

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sspl.cli.completion import preset_names
from sspl.cli.options import (
    DataCommand,
    backbone_option,
    ending,
    json_option,
    on_error_option,
    overrides_of,
    resume_option,
    say,
    settings_file,
)
from sspl.cli.values import Finite, at_least, folder_in, folder_out, seed_value

if TYPE_CHECKING:
    from sspl.data.records import FaceSource
    from sspl.training.partition import Partition
    from sspl.training.stage_settings import FinetuneSettings, PretrainSettings

preset_option = click.option(
    "--preset",
    default="small",
    show_default=True,
    shell_complete=preset_names,
    help="paper-sspl, paper-splnet (both also with -as-published), small, demo.",
)


def gather(
    settings_file: Path | None, given: dict[str, Any], backbone: str | None
) -> dict[str, Any]:
    """Lay what the options gave over a settings file."""
    from sspl.settings import merge, read_settings

    if backbone is not None:
        given = given | {"backbone": {"own": backbone}}
    return merge(read_settings(settings_file), given) if settings_file else given


@click.command(cls=DataCommand)
@overrides_of("pretrain")
@click.option(
    "--data", "specs", multiple=True, help="FORMAT:PATH[,masks=DIR,crop=celeba]; repeatable."
)
@click.option("--out", type=folder_out, required=True, help="Run folder to make.")
@click.option("--seed", type=seed_value)
@backbone_option
@preset_option
@settings_file
@resume_option
@on_error_option
@json_option
def pretrain(
    overrides: tuple[str, ...],
    specs: tuple[str, ...],
    out: Path,
    seed: int | None,
    backbone: str | None,
    preset: str,
    settings_file: Path | None,
    resume: bool,
    on_error: str,
    as_json: bool,
) -> None:
    """Stage 1: learn from unlabelled faces and their masks.

    Settings follow as key=value, such as tasks=[prt,pst] optim.epochs=40; 'sspl settings
    pretrain' lists them.
    """
    from sspl.data.data_settings import parse_data_spec
    from sspl.io.run_files import SETTINGS_FILE, require_new
    from sspl.settings import build, merge, read_settings
    from sspl.training.face_sources import stage_1_sources
    from sspl.training.stage_settings import PretrainSettings
    from sspl.training.stage_settings import preset as preset_of

    def chosen() -> PretrainSettings:
        given: dict[str, Any] = {} if seed is None else {"seed": seed}
        if on_error != "fail":
            given["on_error"] = on_error
        if specs:
            given["data"] = [parse_data_spec(s).absolute().model_dump() for s in specs]
        run = going_on(out, resume, specs, settings_file)
        base = read_settings(run / SETTINGS_FILE) if run else preset_of(preset, "pretrain")
        return build(
            PretrainSettings, merge(base, gather(settings_file, given, backbone)), overrides
        )

    def opened() -> "tuple[PretrainSettings, list[FaceSource]]":
        require_new(out, resume)
        settings = chosen()
        return settings, stage_1_sources(settings)

    _log()
    begun = time.monotonic()
    early = opened() if _alone() else None
    # Only now torch is loaded.
    from sspl.distributed.group import agreed, is_first, joined
    from sspl.training.pretrain import pretrain as run

    with joined():
        settings, sources = early or agreed(opened)
        last = run(settings, out, resume, sources)
        if is_first():
            following = f"sspl finetune --data FACES --from {out} --out FOLDER"
            say(ending(last, out, time.monotonic() - begun, following), last, as_json)


def going_on(out: Path, resume: bool, *given: object) -> Path | None:
    """Return the run whose settings are meant where neither faces nor a file of settings is given.

    So `--out RUN --resume` is enough, and `optim.epochs=N` behind it makes the run longer.
    """
    from sspl.io.run_files import SETTINGS_FILE

    return out if resume and not any(given) and (out / SETTINGS_FILE).is_file() else None


def _log() -> None:
    speaks = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if speaks else logging.ERROR, format="%(message)s")


def _alone() -> bool:
    """Tell whether this is the only process: then nobody waits while it looks at its input."""
    return os.environ.get("WORLD_SIZE", "1") == "1"


@click.command(cls=DataCommand)
@overrides_of("finetune")
@click.option("--data", "spec", help="FORMAT:PATH[,crop=celeba] of the labelled faces.")
@click.option(
    "--from",
    "source",
    help="Run folder of stage 1, a fine-tuned run or model to go on from, 'none', or 'builtin', "
    "which is also meant without --from: the package's own weights, learnt from drawn faces.",
)
@click.option("--out", type=folder_out, required=True, help="Run folder to make.")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    type=folder_in,
    help="Fine-tuned run or model whose answers stand in for labels of further faces; repeatable.",
)
@click.option(
    "--unlabelled",
    "unlabelled",
    multiple=True,
    help="FORMAT:PATH[,crop=celeba] of further faces to ask the teachers about; repeatable.",
)
@click.option("--labels", type=at_least(1), help="How many labelled faces to use.")
@click.option(
    "--fraction", type=Finite(0, 1, min_open=True), help="Which share of the training faces to use."
)
@click.option("--subset-seed", type=seed_value, help="Seed of the choice of labelled faces.")
@click.option("--seed", type=seed_value)
@backbone_option
@preset_option
@settings_file
@resume_option
@json_option
def finetune(
    overrides: tuple[str, ...],
    spec: str | None,
    source: str | None,
    out: Path,
    teachers: tuple[Path, ...],
    unlabelled: tuple[str, ...],
    labels: int | None,
    fraction: float | None,
    subset_seed: int | None,
    seed: int | None,
    backbone: str | None,
    preset: str,
    settings_file: Path | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Stage 2: learn attributes from a few labelled faces.

    Settings follow as key=value; 'sspl settings finetune' lists them.
    """
    from sspl.data.data_settings import parse_data_spec
    from sspl.io.run_files import SETTINGS_FILE, require_new
    from sspl.settings import build, merge, read_settings
    from sspl.training.inheriting import finetune_settings
    from sspl.training.partition import partition
    from sspl.training.stage_settings import FinetuneSettings
    from sspl.weights import BUILT_IN, absolute

    def chosen() -> FinetuneSettings:
        subset = {"count": labels, "fraction": fraction, "subset_seed": subset_seed}
        given: dict[str, Any] = {"labels": {k: v for k, v in subset.items() if v is not None}}
        run = going_on(out, resume, spec, settings_file)
        if source is not None:
            given["pretrained"] = None if source == "none" else absolute(source)
        elif settings_file is None and run is None:
            given["pretrained"] = BUILT_IN
        if seed is not None:
            given["seed"] = seed
        if spec is not None:
            given["data"] = parse_data_spec(spec).absolute().model_dump(exclude_unset=True)
        more = [parse_data_spec(s).absolute().model_dump(exclude_unset=True) for s in unlabelled]
        asked = {"teachers": [str(t.absolute()) for t in teachers], "data": more}
        if distillation := {k: v for k, v in asked.items() if v}:
            given["distillation"] = distillation
        above = gather(settings_file, given, backbone)
        if run is not None:
            before = read_settings(run / SETTINGS_FILE)
            return build(FinetuneSettings, merge(before, above), overrides)
        return finetune_settings(preset, above, overrides)

    def opened() -> "tuple[FinetuneSettings, Partition]":
        require_new(out, resume)
        settings = chosen()
        return settings, partition(settings)

    _log()
    begun = time.monotonic()
    early = opened() if _alone() else None
    # Only now torch is loaded.
    from sspl.distributed.group import agreed, is_first, joined
    from sspl.training.finetune import finetune as run

    with joined():
        settings, parts = early or agreed(opened)
        summary = run(settings, out, resume, parts)
        if is_first():
            following = f"sspl evaluate {out} --split test"
            text = ending(summary["best"], out, time.monotonic() - begun, following)
            say(text, summary, as_json)

"""A model folder that travels: weights, metadata in JSON and a model card, and nothing else."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from sspl.errors import SsplError
from sspl.evaluation.decide_run import DECISIONS_FILE
from sspl.inference.card import RunMetadata, model_card
from sspl.io.files import atomic_path, holds_nothing, read_object, write_json, write_text
from sspl.io.locks import claimed
from sspl.io.run_files import RUN_FILE, SETTINGS_FILE, read_metrics
from sspl.io.runs import versions
from sspl.io.weights import save_tensors
from sspl.metrics.attributes import remarks
from sspl.models.bundle import load_model, model_metadata
from sspl.models.model_metadata import CONFIG_FILE, MODEL_FILE
from sspl.settings import read_settings

CARD_FILE: Final = "MODEL_CARD.md"
FORMAT: Final = 1
EVALUATION: Final = "evaluation-"
DECIDED: Final = ("rule", "sure_accuracy", "given", "faces", "validation")


def pack_model(
    run: Path,
    out: Path,
    name: str | None = None,
    licence: str | None = None,
    description: str | None = None,
) -> None:
    """Write the model of a run as `model.safetensors`, `config.json` and `MODEL_CARD.md`.

    Of the run only metadata are taken over: no path, no name of a picture.

    Args:
        run: folder of a fine-tuned run, or a model folder.
        out: folder to make; it must be empty or not there.
        name: of the model, the run folder's unless given.
        licence: under which the weights may be used.
        description: of the data, in words.

    Raises `SsplError` when `out` holds something.
    """
    if out.exists() and not (out.is_dir() and holds_nothing(out)):
        raise SsplError(f"{out} is already there and not empty; choose another --out.")
    model = load_model(run)
    metadata = read_run(run, name, licence, description)
    # All are written before the first has its name: what breaks off leaves an empty folder.
    with claimed(out, folder=True), ExitStack() as stack:
        config, card, weights = (
            stack.enter_context(atomic_path(out / name))
            for name in (CONFIG_FILE, CARD_FILE, MODEL_FILE)
        )
        save_tensors(weights, model.network.state_dict(), None)
        write_text(card, model_card(model, metadata))
        write_json(config, _config(model_metadata(model), metadata))


def _config(model: dict[str, Any], metadata: RunMetadata) -> dict[str, Any]:
    return {
        "library_name": "sspl",
        "format": FORMAT,
        "name": metadata.name,
        **model,
        "licence": metadata.licence,
        "data": {
            "description": metadata.description,
            "labelled_faces": metadata.labelled,
            "validation_faces": metadata.validation,
            "label_counts": dict(metadata.label_counts),
        },
        "versions": metadata.versions,
        "decided": dict(metadata.decided),
        "kept": list(metadata.kept),
        **({"taught": metadata.taught} if metadata.taught else {}),
        **({"extractors": list(metadata.extractors)} if metadata.extractors else {}),
    }


def read_run(
    run: Path, name: str | None = None, licence: str | None = None, description: str | None = None
) -> RunMetadata:
    """Gather what a run folder says of its model; what is not there is None or empty."""
    folder = run if run.is_dir() else run.parent
    settings = _yaml(folder / SETTINGS_FILE)
    metrics = read_metrics(folder)
    packed = read_object(folder / CONFIG_FILE)
    data = packed.get("data", {})
    return RunMetadata(
        name=name or packed.get("name") or folder.resolve().name,
        licence=licence or packed.get("licence"),
        description=description or data.get("description") or _data_in_words(settings),
        labelled=metrics.get("labelled", data.get("labelled_faces")),
        validation=metrics.get("validation", data.get("validation_faces")),
        selected_by=metrics.get("selected_by"),
        best=metrics.get("best", {}),
        kept=_kept(metrics) or packed.get("kept", ()),
        taught=metrics.get("taught", packed.get("taught", "")),
        extractors=metrics.get("extractors", packed.get("extractors", ())),
        settings=settings,
        pretraining=_pretraining(settings),
        versions=read_object(folder / RUN_FILE).get("versions")
        or packed.get("versions")
        or versions(),
        decided=_decided(folder) or packed.get("decided", {}),
        label_counts=metrics.get("label_counts") or data.get("label_counts", {}),
        evaluations={
            file.stem.removeprefix(EVALUATION): read_object(file)
            for file in sorted(folder.glob(f"{EVALUATION}*.json"))
        },
    )


def _kept(metrics: dict[str, Any]) -> list[str]:
    """Return what a run's log says of the epoch that was kept."""
    total = len(metrics.get("label_counts", {}))
    kept = [metrics["kept"]] if metrics.get("kept") else []
    return kept + remarks(metrics, total, "validation faces")


def _decided(folder: Path) -> dict[str, Any]:
    """Return how the thresholds came about, without the figures of the faces they are from."""
    found = read_object(folder / DECISIONS_FILE)
    return {key: found[key] for key in DECIDED if key in found}


def _data_in_words(settings: dict[str, Any]) -> str | None:
    """Say which kind of data it was, without its paths."""
    data = settings.get("data")
    return f"faces in the format '{data['format']}'" if data else None


def _pretraining(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of stage 1 where its run folder is still there."""
    source = settings.get("pretrained")
    return _yaml(Path(source) / SETTINGS_FILE) if source else {}


def _yaml(file: Path) -> dict[str, Any]:
    return read_settings(file) if file.is_file() else {}

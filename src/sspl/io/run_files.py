"""The files of a run folder, and how far they say that it has come; no torch is needed to ask."""

from pathlib import Path
from typing import Any, Final

from sspl.errors import SsplError
from sspl.io.files import read_json, read_object, read_text

SETTINGS_FILE: Final = "settings.yaml"
RUN_FILE: Final = "run.json"
METRICS_CSV: Final = "metrics.csv"
METRICS_JSON: Final = "metrics.json"
STATE_FILE: Final = "state.safetensors"
PRETRAINED_FILE: Final = "pretrained.safetensors"
PREVIOUS_FILE: Final = "state.previous.safetensors"

_OBJECTS: Final = ("best", "label_counts", "iou")
"""Keys of metrics.json whose values have names of their own."""


def require_new(folder: Path, resume: bool) -> None:
    """Raise `SsplError` when the folder already holds a run that is not to go on."""
    if not resume and (folder / SETTINGS_FILE).exists():
        raise SsplError(
            f"{folder} already holds a run; add --resume to go on with it, or choose another --out."
        )


def has_state(folder: Path) -> bool:
    """Tell whether a run in this folder has saved anything."""
    return any((folder / name).exists() for name in (STATE_FILE, PREVIOUS_FILE))


def rows_done(folder: Path) -> int:
    """Return how many epochs the log of a run tells of; 0 where there is none."""
    file = folder / METRICS_CSV
    return max(0, len(read_text(file).splitlines()) - 1) if file.exists() else 0


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return what a run's metrics.json tells; what has another shape than it gets is left out.

    Raises `DataError` naming the file when it is not JSON.
    """
    metrics = read_object(folder / METRICS_JSON)
    return {k: v for k, v in metrics.items() if k not in _OBJECTS or isinstance(v, dict)}


def finished(folder: Path) -> bool:
    """Tell whether a training run in this folder has come to its end."""
    file = folder / METRICS_JSON
    content = read_json(file) if file.exists() else {}
    return isinstance(content, dict) and content.get("finished") is True

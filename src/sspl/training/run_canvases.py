"""The canvases of a run's faces."""

from collections.abc import Sequence

from sspl.data.canvases import Canvases
from sspl.data.records import FaceSource
from sspl.distributed.group import local_count
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings


def canvases_of(
    sources: Sequence[FaceSource],
    canvas: int,
    classes: int | None,
    settings: PretrainSettings | FinetuneSettings,
) -> Canvases:
    """Return the canvases of faces, read and kept as the settings of a run say."""
    runtime = settings.runtime
    # Each process has a share of the machine's memory, but for what they share.
    share = 1 if runtime.cache_folder else local_count()
    return Canvases(
        sources, canvas, classes, runtime.cache_gb / share, runtime.workers, settings.enlarge,
        runtime.cache_folder,
    )  # fmt: skip

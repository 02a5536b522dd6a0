"""Start the server."""

from pathlib import Path

from sspl.apps.serving.reader import Reader
from sspl.apps.serving.serving_settings import ServeSettings
from sspl.device import return_freed_memory
from sspl.errors import SsplError
from sspl.faces.detectors import MIN_SCORES, make_detector


def run_server(
    model: Path, settings: ServeSettings, host: str, port: int, detect: bool, device: str
) -> None:
    """Serve until interrupted.

    Raises `SsplError` when the extra is not installed or the address cannot be listened on.
    """
    try:
        from sspl.apps.serving.app import make_app
        from sspl.apps.serving.shell import run_app
    except ImportError as absent:
        raise SsplError(
            f"serving needs a package that is not installed ({absent.name}); "
            "run in the clone of sspl: pip install '.[serve,faces]'."
        ) from None
    return_freed_memory()
    detector = make_detector("yunet", MIN_SCORES["yunet"]) if detect else None
    run_app(make_app(Reader(model, detector, device), settings), host, port)

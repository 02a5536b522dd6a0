"""Start the server."""

from pathlib import Path

from sspl.errors import SsplError
from sspl.faces.detectors import MIN_SCORES, make_detector
from sspl.serving.reader import Reader
from sspl.serving.settings import ServeSettings

KEEP_ALIVE = 5
BACKLOG = 512


def run_server(
    model: Path, settings: ServeSettings, host: str, port: int, detect: bool, device: str
) -> None:
    """Serve until interrupted.

    Raises `SsplError` when the extra is not installed or the address cannot be listened on.
    """
    try:
        import uvicorn

        from sspl.serving.app import make_app
    except ImportError as absent:
        raise SsplError(
            f"serving needs a package that is not installed ({absent.name}); "
            "run: pip install 'sspl[serve,faces]'."
        ) from None
    detector = make_detector("yunet", MIN_SCORES["yunet"]) if detect else None
    app = make_app(Reader(model, detector, device), settings)
    config = uvicorn.Config(
        app, host=host, port=port, timeout_keep_alive=KEEP_ALIVE, backlog=BACKLOG,
        server_header=False, access_log=False, log_level="info",
    )  # fmt: skip
    try:
        uvicorn.Server(config).run()
    except SystemExit:
        # uvicorn has said which address is taken.
        raise SsplError(f"cannot listen on {host}:{port}; choose another --port.") from None

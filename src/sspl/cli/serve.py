"""`sspl serve`: a model behind HTTP."""

from pathlib import Path

import click

from sspl.cli.options import overrides
from sspl.cli.values import device_value, folder_in, host_value, port_value


@click.command()
@click.argument("model", type=folder_in)
@overrides
@click.option(
    "--host", type=host_value, default="127.0.0.1", show_default=True, help="Address to listen on."
)
@click.option("--port", type=port_value, default=8000, show_default=True)
@click.option(
    "--detect/--no-detect",
    default=True,
    show_default=True,
    help="Find the faces of each picture, or take each picture as one aligned face.",
)
@click.option("--device", type=device_value, default="auto", show_default=True)
def serve(
    model: Path, overrides: tuple[str, ...], host: str, port: int, detect: bool, device: str
) -> None:
    """Serve MODEL: a page to drop pictures on, and a JSON API (/openapi.json).

    Only this machine reaches it unless --host says otherwise; it then answers to the names in
    hosts=[NAME,...] alone, and it has no log-in: put it behind something that has. Limits follow
    as key=value, such as max_bytes=5000000 rate=10.
    """
    from sspl.apps.serving.serving_settings import ServeSettings
    from sspl.apps.serving.start import run_server
    from sspl.settings import build

    run_server(model, build(ServeSettings, {}, overrides), host, port, detect, device)

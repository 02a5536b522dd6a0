"""`sspl demo`."""

import logging
from pathlib import Path

import click

from sspl.cli.options import folder_out, overrides


@click.command()
@overrides
@click.option("--out", type=folder_out, default=Path("demo"), show_default=True)
def demo(overrides: tuple[str, ...], out: Path) -> None:
    """Run the whole method on synthetic faces and draw what pre-training is worth."""
    from sspl.demo import DemoSettings, clear, run_demo
    from sspl.settings import build

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = build(DemoSettings, {}, overrides)
    clear(out)
    click.echo(run_demo(settings, out))
    click.echo(f"picture: {out / 'comparison.png'}")

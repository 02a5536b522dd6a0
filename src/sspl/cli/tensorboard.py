"""`sspl tensorboard`: logs of runs as TensorBoard reads them."""

from pathlib import Path

import click

from sspl.cli.options import folder_in, folder_out


@click.command()
@click.argument("runs", type=folder_in, nargs=-1, required=True)
@click.option("--out", type=folder_out, required=True, help="Folder for TensorBoard's --logdir.")
@click.option(
    "--watch",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help="Look for new rows every so many seconds until the runs are over.",
)
def tensorboard(runs: tuple[Path, ...], out: Path, watch: float | None) -> None:
    """Write the curves of RUNS for TensorBoard; then: tensorboard --logdir OUT.

    Needs pip install 'sspl[tensorboard]'.
    """
    from sspl.board import write_events

    click.echo(f"{write_events(runs, out, watch)} rows of {len(runs)} runs in {out}")

"""`sspl tensorboard`: logs of runs as TensorBoard reads them."""

from pathlib import Path

import click

from sspl.cli.options import json_option, say
from sspl.cli.values import Finite, folder_in, folder_out


@click.command()
@click.argument("runs", type=folder_in, nargs=-1, required=True)
@click.option("--out", type=folder_out, required=True, help="Folder for TensorBoard's --logdir.")
@click.option(
    "--watch",
    type=Finite(0.1),
    metavar="SECONDS",
    help="Look for new rows every so many seconds until the runs are over.",
)
@json_option
def tensorboard(runs: tuple[Path, ...], out: Path, watch: float | None, as_json: bool) -> None:
    """Write the curves of RUNS for TensorBoard; then: tensorboard --logdir OUT.

    Needs pip install '.[tensorboard]' in the clone of sspl.
    """
    from sspl.io.locks import claimed
    from sspl.io.tensorboard import write_events

    with claimed(out, folder=True):
        rows = write_events(runs, out, watch)
    result = {"rows": rows, "runs": len(runs), "out": str(out)}
    say(f"{rows} rows of {len(runs)} runs in {out}", result, as_json)

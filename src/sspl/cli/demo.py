"""`sspl demo`."""

import logging
from pathlib import Path

import click

from sspl.cli.options import json_option, overrides, say
from sspl.cli.values import folder_out


@click.command()
@overrides
@click.option("--out", type=folder_out, default=Path("demo"), show_default=True)
@json_option
def demo(overrides: tuple[str, ...], out: Path, as_json: bool) -> None:
    """Learn from few labels of drawn faces, from scratch and from the weights; draw the gain."""
    from sspl.demo.run_demo import DemoSettings, clear, run_demo
    from sspl.evaluation.comparison import comparison_table
    from sspl.io.locks import claimed
    from sspl.settings import build

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = build(DemoSettings, {}, overrides)
    with claimed(out, folder=True):
        clear(out)
        results, picture = run_demo(settings, out), out / "comparison.png"
    table = comparison_table(results, settings.labels)
    result = {
        "arms": {arm: found.means for arm, found in results.items()},
        "picture": str(picture),
    }
    say(f"{table}\npicture: {picture}", result, as_json)

"""What a training step takes, beside an earlier commit's: the same benchmark of each, by turns.

    python benchmarks/before.py [--commit af82d0f] [--rounds 3] [ARGUMENTS OF step.py]...

Each commit's own `benchmarks/step.py` runs on its own code, in this environment; ARGUMENTS go to
both, so name what has another default there: `--preset small 'tasks=[prt,pst,pct]'`, say. The ratio
is of the medians of "as shipped". Commit af82d0f is the last of version 0.1.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import click

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = re.compile(r"^as shipped +([\d.]+) ", re.M)


def step_ms(tree: Path, arguments: tuple[str, ...]) -> float:
    """Return milliseconds a step of the code in a tree, as its benchmark prints them."""
    command = [sys.executable, str(tree / "benchmarks" / "step.py"), "--rounds", "1", *arguments]
    paths = os.pathsep.join(str(tree / folder) for folder in ("src", "benchmarks"))
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
    )
    found = SHIPPED.search(done.stdout)
    if found is None:
        raise click.ClickException(f"{tree}: {done.stderr.strip().splitlines()[-1]}")
    return float(found[1])


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--commit", default="af82d0f", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(commit: str, rounds: int, arguments: tuple[str, ...]) -> None:
    """Time both by turns, and print both medians and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(before), commit], check=True)
        try:
            took = [(step_ms(before, arguments), step_ms(ROOT, arguments)) for _ in range(rounds)]
        finally:
            subprocess.run([*git, "remove", "--force", str(before)], check=True)
    then, now = (median(ms) for ms in zip(*took, strict=True))
    click.echo(f"{commit} {then:.0f} ms a step, now {now:.0f} ms: ratio {now / then:.2f}")


if __name__ == "__main__":
    main()

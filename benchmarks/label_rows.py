"""How long a large label file takes to read, and how much memory.

    python benchmarks/label_rows.py [--rows 10000000] [--maad]

Writes a CSV of so many rows with eight attributes, or MAAD-Face's 47, into a temporary folder,
beside one picture (the first row's; the other rows are skipped), and reads it in a process of its
own.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

ATTRIBUTES = 8
OF_MAAD = 47


def write_maad(path: Path, rows: int) -> None:
    values = [
        ",".join(str((n >> i % 8 & 1) - (n >> (i + 3) % 8 & 1)) for i in range(OF_MAAD))
        for n in range(256)
    ]
    with path.open("w", encoding="utf-8") as file:
        file.write("Filename,Identity," + ",".join(f"A{i}" for i in range(OF_MAAD)) + "\n")
        for row in range(rows):
            person = row // 1000
            file.write(f"{person:05d}/{row:08d}.jpg,{person},{values[row % 256]}\n")


def write_rows(path: Path, rows: int) -> None:
    values = [",".join(str(n >> bit & 1) for bit in range(ATTRIBUTES)) for n in range(256)]
    with path.open("w", encoding="utf-8") as file:
        file.write("image," + ",".join(f"A{i}" for i in range(ATTRIBUTES)) + "\n")
        for row in range(rows):
            file.write(f"{row // 1000:05d}/{row:08d}.jpg,{values[row % 256]}\n")


def read_rows(path: Path, maad: bool) -> None:
    from sspl.data.adapters.maad import read_maad
    from sspl.data.adapters.table import read_table

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, worked = time.monotonic(), time.process_time()
    faces = read_maad(path, missing="skip") if maad else read_table(path, missing="skip")
    seconds, worked = time.monotonic() - begun, time.process_time() - worked
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = f"{seconds:.1f} s ({worked:.1f} s of processor time)"
    click.echo(f"{took}, {(after - before) / 1024:.0f} MB more; {len(faces)} face kept")


@click.command()
@click.option("--rows", type=click.IntRange(1), default=10_000_000, show_default=True)
@click.option("--maad", is_flag=True, help="MAAD-Face's columns.")
@click.option("--read", type=click.Path(path_type=Path), hidden=True)
def main(rows: int, maad: bool, read: Path | None) -> None:
    if read is not None:
        read_rows(read, maad)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.csv"
        write_maad(path, rows) if maad else write_rows(path, rows)
        picture = Path(folder) / "00000" / "00000000.jpg"
        picture.parent.mkdir()
        picture.touch()
        click.echo(f"{rows:,} rows, {path.stat().st_size / 2**20:.0f} MB")
        subprocess.run(
            [sys.executable, __file__, "--read", str(path), *["--maad"] * maad], check=True
        )


if __name__ == "__main__":
    main()

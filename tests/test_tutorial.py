"""The tutorial's commands, run in order as a reader would, at toy size."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sspl

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
TOY = {
    "FACES": "60", "NEW_FACES": "3", "SIZE": "64", "PARSER_STEPS": "10", "PRETRAIN_EPOCHS": "2",
    "LABELS": "20", "FINETUNE_EPOCHS": "5",
}  # fmt: skip


def script(page: str) -> str:
    """Return the page's shell and Python blocks as one shell script that stops at an error."""
    lines = ["set -euo pipefail", f'sspl() {{ "{sys.executable}" -m sspl "$@"; }}']
    for language, code in BLOCK.findall(page):
        if language == "python":
            code = f"\"{sys.executable}\" - <<'END'\n{code}END\n"
        lines.append(code)
    return "\n".join(lines)


def test_every_block_of_the_page_is_run() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("```") == 2 * len(BLOCK.findall(page))
    assert {language for language, _ in BLOCK.findall(page)} == {"sh", "python"}
    assert set(re.findall(r"\$\{(\w+):-\d+\}", page)) == set(TOY)


@pytest.mark.slow
def test_the_commands_of_the_tutorial_work(tmp_path: Path) -> None:
    package = str(Path(sspl.__file__).parents[1])
    environment = {**os.environ, **TOY, "PYTHONPATH": package, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", script(PAGE.read_text(encoding="utf-8"))],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert [row["image"] for row in rows] == ["000001.jpg", "000002.jpg", "000003.jpg"]
    printed = dict(re.findall(r"^(\w+) +(\d\.\d\d)$", done.stdout, re.M))
    names = [name for name in rows[0] if f"{name}_probability" in rows[0]]
    assert names
    for name in names:
        said = float(rows[0][f"{name}_probability"])
        assert float(printed[name]) == pytest.approx(said, abs=0.02)

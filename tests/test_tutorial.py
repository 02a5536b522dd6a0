"""The tutorial's commands, run in order as a reader would, at toy size."""

import csv
import os
import re
import subprocess
from pathlib import Path

import pytest

from shared import sspl as command

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
TOY = {
    "FACES": "60", "NEW_FACES": "3", "SIZE": "64", "PARSER_STEPS": "10", "PRETRAIN_EPOCHS": "2",
    "LABELS": "20", "FINETUNE_EPOCHS": "5",
}  # fmt: skip
SAY = """set -euo pipefail
sspl() { printf '%s\\n' "$@"; echo; }
"""


def commands(page: str) -> list[list[str]]:
    """Return the arguments of each `sspl` of the page's shell blocks, as bash reads them."""
    script = SAY + "".join(code for language, code in BLOCK.findall(page) if language == "sh")
    said = subprocess.run(
        ["bash", "-c", script], env=os.environ | TOY, capture_output=True, text=True, check=True
    )
    return [part.split("\n") for part in said.stdout.removesuffix("\n\n").split("\n\n")]


def test_every_block_of_the_page_is_run() -> None:
    page = PAGE.read_text(encoding="utf-8")
    blocks = BLOCK.findall(page)
    assert page.count("```") == 2 * len(blocks)
    assert [language for language, _ in blocks] == ["sh"] * (len(blocks) - 1) + ["python"]
    assert set(re.findall(r"\$\{(\w+):-\d+\}", page)) == set(TOY)
    assert len(commands(page)) == len(re.findall(r"^sspl ", page, re.M)) > 10


@pytest.mark.slow
def test_the_commands_of_the_tutorial_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = PAGE.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for arguments in commands(page):
        command(*arguments)
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert [row["image"] for row in rows] == ["000001.jpg", "000002.jpg", "000003.jpg"]
    capsys.readouterr()
    exec(BLOCK.findall(page)[-1][1], {})
    printed = dict(re.findall(r"^(\w+) +(\d\.\d\d)$", capsys.readouterr().out, re.M))
    names = [name for name in rows[0] if f"{name}_probability" in rows[0]]
    assert names
    for name in names:
        said = float(rows[0][f"{name}_probability"])
        assert float(printed[name]) == pytest.approx(said, abs=0.02)

"""The labelling page in a real browser, and a server that is killed."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium")
ASKED = "Smiling,Wearing_Hat"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for i in range(30):
        Image.new("RGB", (40, 40), (8 * i, 40, 40)).save(root / f"{i:02d}.png")
    return root


@contextmanager
def labelling(folder: Path, out: Path, attributes: str = ASKED) -> Iterator[tuple[Any, str, str]]:
    """A server of its own process: the process, its address and the key."""
    command = [
        sys.executable, "-m", "sspl", "label", str(folder), "--attributes", attributes,
        "--out", str(out), "--port", "0",
    ]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    address, _, key = server.stdout.readline().split()[1].partition("#")
    try:
        yield server, address, key
    finally:
        server.terminate()
        server.wait(30)
        server.stdout.close()


def post(address: str, key: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        address + path, json.dumps(body).encode(), {"X-Sspl-Key": key}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def rows(out: Path) -> dict[str, dict[str, str]]:
    with out.open(newline="") as file:
        return {row.pop("image"): row for row in csv.DictReader(file)}


def test_what_was_acknowledged_outlives_a_kill(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    acknowledged: dict[str, tuple[int, int]] = {}
    with labelling(folder, out) as (server, address, key):

        def tab(name: str, enough: threading.Event) -> None:
            try:
                while True:
                    for face in post(address, key, "v1/round", {"tab": name})["faces"]:
                        wanted = (face["face"] % 2, face["face"] % 3 % 2)
                        values = dict(zip(ASKED.split(","), wanted, strict=True))
                        post(
                            address, key, "v1/answer",
                            {"tab": name, "face": face["face"], "name": face["name"],
                             "values": values},
                        )  # fmt: skip
                        acknowledged[face["name"]] = wanted
                        if len(acknowledged) >= 9:
                            enough.set()
            except (OSError, HTTPException):
                enough.set()

        enough = threading.Event()
        tabs = [threading.Thread(target=tab, args=(name, enough)) for name in ("one", "two")]
        for thread in tabs:
            thread.start()
        assert enough.wait(60)
        os.kill(server.pid, signal.SIGKILL)
        for thread in tabs:
            thread.join(60)
    assert len(acknowledged) >= 9

    def kept() -> dict[str, tuple[int, int]]:
        return {
            name: (int(row["Smiling"]), int(row["Wearing_Hat"])) for name, row in rows(out).items()
        }

    assert kept().items() >= acknowledged.items()
    with labelling(folder, out) as (_, address, key):
        left = post(address, key, "v1/round", {"tab": "three"})["faces"]
        assert not {face["name"] for face in left} & set(acknowledged)
    assert kept().items() >= acknowledged.items()
    assert not [file for file in tmp_path.iterdir() if file.suffix == ".tmp"]


@pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")
@pytest.mark.parametrize("size", [(1280, 900), (390, 800)])
def test_faces_are_labelled_by_keyboard_alone(
    folder: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    out = tmp_path / "labels.csv"
    with labelling(folder, out) as (_, address, key), playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        page.set_default_timeout(60_000)
        complaints: list[str] = []
        asked: set[str] = set()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.add(request.url))

        def said(text: str) -> None:
            page.wait_for_selector(f"#said:has-text('{text}')")

        def shown() -> str:
            page.wait_for_selector("#picture:visible")
            return str(page.get_attribute("#picture", "alt")).removeprefix("face ")

        page.goto(f"{address}#{key}")
        first = shown()
        assert page.inner_text("#question") == "Smiling?"
        page.keyboard.press("ArrowRight")
        said("Smiling: yes")
        page.wait_for_selector(f"#picture:visible:not([alt='face {first}'])")
        second = shown()
        page.keyboard.press("n")
        said("Smiling: no")
        page.keyboard.press("Space")
        said("Smiling: not sure")
        assert rows(out)[first]["Smiling"] == "1"
        assert rows(out)[second]["Smiling"] == "0"
        page.keyboard.press("z")
        said("Taken back")
        page.keyboard.press("z")
        page.wait_for_selector(f"#picture[alt='face {second}']")
        assert list(rows(out)) == [first]
        assert page.inner_text("#counts tr:first-child td:nth-of-type(1)") == "1"

        page.keyboard.press("m")
        assert page.get_attribute("#by-face", "aria-pressed") == "true"
        whole = shown()
        page.keyboard.press("2")
        page.keyboard.press("Enter")
        said("Wearing Hat: yes")
        expected = {"Smiling": "1" if whole == first else "0", "Wearing_Hat": "1"}
        assert rows(out)[whole] == expected

        # By the tabulator and the space bar alone, too: the button has the focus.
        page.focus("#sheet li:first-child button:last-child")
        page.keyboard.press("Space")
        pressed = "#sheet li:first-child button[aria-pressed=true]"
        assert page.inner_text(pressed) == "Yes"
        page.focus("#rest-unsure")
        page.keyboard.press("Enter")
        said("Wearing Hat: not sure")
        assert {"Smiling": "1", "Wearing_Hat": ""} in rows(out).values()

        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert complaints == []
        assert all(url.startswith((address, "blob:", "data:")) for url in asked)

        other = browser.new_page()
        other.goto(f"{address}#wrong")
        other.wait_for_selector("#said.bad")
        assert "open the address" in other.inner_text("#said")
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")
def test_an_answer_that_was_not_saved_is_sent_again(folder: Path, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    out = tmp_path / "labels.csv"
    with labelling(folder, out, "Smiling") as (_, address, key):
        with playwright.sync_playwright() as started:
            browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page()
            page.set_default_timeout(60_000)
            page.goto(f"{address}#{key}")
            page.wait_for_selector("#picture:visible")
            name = str(page.get_attribute("#picture", "alt")).removeprefix("face ")
            page.route("**/v1/answer", lambda route: route.abort())
            page.keyboard.press("y")
            page.wait_for_selector("#again:visible")
            assert "Not saved" in page.inner_text("#said")
            assert page.is_disabled("#yes")
            assert rows(out) == {}
            page.unroute("**/v1/answer")
            page.keyboard.press("r")
            page.wait_for_selector("#said:has-text('Smiling: yes')")
            assert rows(out) == {name: {"Smiling": "1"}}
            assert page.locator("#again:visible").count() == 0
            # All faces of a folder, round after round.
            for _ in range(29):
                page.wait_for_selector("#no:enabled")
                page.keyboard.press("n")
            page.wait_for_selector("#said:has-text('Every face is labelled')")
            browser.close()
        assert len(rows(out)) == 30


def test_another_name_for_this_machine_is_refused(folder: Path, tmp_path: Path) -> None:
    with labelling(folder, tmp_path / "labels.csv") as (_, address, key):
        headers = {"Host": "evil.example", "X-Sspl-Key": key}
        request = urllib.request.Request(address + "v1/state", headers=headers)
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(request, timeout=20)

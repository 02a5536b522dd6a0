"""The labelling page in a real browser, and a server that is killed."""

import csv
import os
import signal
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

import pytest

from browser import browsing, needs_chromium
from shared import labelling, post, thirty_pictures

ASKED = ("Smiling", "Wearing_Hat")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return thirty_pictures(tmp_path_factory.mktemp("pictures"))


def rows(out: Path) -> dict[str, dict[str, str]]:
    with out.open(newline="") as file:
        return {row.pop("image"): row for row in csv.DictReader(file)}


def test_what_was_acknowledged_outlives_a_kill(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    acknowledged: dict[str, tuple[int, int]] = {}
    with labelling(folder, out, ASKED) as (server, address, key):

        def tab(name: str, enough: threading.Event) -> None:
            try:
                while True:
                    for face in post(address, key, "v1/round", {"tab": name})["faces"]:
                        wanted = (face["face"] % 2, face["face"] % 3 % 2)
                        values = dict(zip(ASKED, wanted, strict=True))
                        post(
                            address,
                            key,
                            "v1/answer",
                            {
                                "tab": name,
                                "face": face["face"],
                                "name": face["name"],
                                "values": values,
                            },
                        )
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
    with labelling(folder, out, ASKED) as (_, address, key):
        left = post(address, key, "v1/round", {"tab": "three"})["faces"]
        assert not {face["name"] for face in left} & set(acknowledged)
    assert kept().items() >= acknowledged.items()
    assert not [file for file in tmp_path.iterdir() if file.suffix == ".tmp"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_to_stop_a_server_is_no_interruption(folder: Path, tmp_path: Path, number: int) -> None:
    with labelling(folder, tmp_path / "labels.csv", ASKED) as (server, address, key):
        assert post(address, key, "v1/round", {"tab": "one"})["faces"]
        server.send_signal(number)
        assert server.wait(30) == 0


@needs_chromium
@pytest.mark.parametrize("size", [(1280, 900), (390, 800)])
def test_faces_are_labelled_by_keyboard_alone(
    folder: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    out = tmp_path / "labels.csv"
    with labelling(folder, out, ASKED) as (_, address, key), browsing() as browser:
        page = browser.page(*size)

        def said(text: str) -> None:
            page.wait_text("#said", text)

        def shown() -> str:
            page.wait_visible("#picture")
            return page.attribute("#picture", "alt").removeprefix("face ")

        page.goto(f"{address}#{key}")
        first = shown()
        assert page.text("#question") == "Smiling?"
        page.press("ArrowRight")
        said("Smiling: yes")
        page.wait_visible(f"#picture:not([alt='face {first}'])")
        second = shown()
        page.press("n")
        said("Smiling: no")
        page.press("Space")
        said("Smiling: not sure")
        assert rows(out)[first]["Smiling"] == "1"
        assert rows(out)[second]["Smiling"] == "0"
        page.press("z")
        said("Taken back")
        page.press("z")
        page.wait_visible(f"#picture[alt='face {second}']")
        assert list(rows(out)) == [first]
        assert page.text("#counts tr:first-child td:nth-of-type(1)") == "1"

        page.press("m")
        assert page.attribute("#by-face", "aria-pressed") == "true"
        whole = shown()
        page.press("2")
        page.press("Enter")
        said("Wearing Hat: yes")
        expected = {"Smiling": "1" if whole == first else "0", "Wearing_Hat": "1"}
        assert rows(out)[whole] == expected

        # By the tabulator and the space bar alone, too: the button has the focus.
        page.focus("#sheet li:first-child button:last-child")
        page.press("Space")
        pressed = "#sheet li:first-child button[aria-pressed=true]"
        assert page.text(pressed) == "Yes"
        page.focus("#rest-unsure")
        page.press("Enter")
        said("Wearing Hat: not sure")
        assert {"Smiling": "1", "Wearing_Hat": ""} in rows(out).values()

        assert page.width() <= size[0]
        assert page.complaints == []
        assert page.asked
        assert all(url.startswith((address, "blob:", "data:")) for url in page.asked)

        other = browser.page()
        other.goto(f"{address}#wrong")
        other.wait_visible("#said.bad")
        assert "open the address" in other.text("#said")


@needs_chromium
def test_an_answer_that_was_not_saved_is_sent_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    with labelling(folder, out, ["Smiling"]) as (_, address, key):
        with browsing() as browser:
            page = browser.page()
            page.watch_requests()
            page.goto(f"{address}#{key}")
            page.wait_visible("#picture")
            name = page.attribute("#picture", "alt").removeprefix("face ")
            page.refuse = lambda url: url.endswith("/v1/answer")
            page.press("y")
            page.wait_visible("#again")
            assert "Not saved" in page.text("#said")
            assert page.find("document.querySelector('#yes').disabled")
            assert rows(out) == {}
            page.refuse = lambda _: False
            page.press("r")
            page.wait_text("#said", "Smiling: yes")
            assert rows(out) == {name: {"Smiling": "1"}}
            assert not page.is_visible("#again")
            # All faces of a folder, round after round.
            for _ in range(29):
                page.wait_visible("#no:enabled")
                page.press("n")
            page.wait_text("#said", "Every face is labelled")
        assert len(rows(out)) == 30


def test_another_name_for_this_machine_is_refused(folder: Path, tmp_path: Path) -> None:
    with labelling(folder, tmp_path / "labels.csv", ASKED) as (_, address, key):
        headers = {"Host": "evil.example", "X-Sspl-Key": key}
        request = urllib.request.Request(address + "v1/state", headers=headers)
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(request, timeout=20)

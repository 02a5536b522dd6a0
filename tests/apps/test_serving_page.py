"""The server's page in a real browser."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tests.apps.test_serving import run as run

from browser import browsing, needs_chromium
from sspl.data.synthetic.render import render_face

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    """A server of its own process on a free port."""
    command = [sys.executable, "-m", "sspl", "serve", str(run), "--no-detect", "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if "running on " in line:
            yield line.split("running on ")[1].split()[0]
            break
    server.terminate()
    server.wait(20)


def test_a_chosen_picture_is_shown_with_its_attributes(address: str, tmp_path: Path) -> None:
    file = tmp_path / "face.png"
    Image.fromarray(render_face(5, 1, 96).image).save(file)
    rubbish = tmp_path / "rubbish.png"
    rubbish.write_bytes(b"no picture")
    with browsing() as browser:
        page = browser.page(390, 800)
        page.goto(address)
        page.choose_file("#file", file)
        page.wait_visible("#shown.ready")
        assert page.text("#said") == "One face."
        names = page.texts("#attributes li .name")
        shares = page.texts("#attributes .share")
        assert sorted(names) == ["Eyeglasses", "Smiling"]
        assert float(shares[0].split()[0]) >= float(shares[1].split()[0])
        # The reason opens below the row that was pressed, and closes when it is pressed again.
        page.click("#attributes li:nth-child(1) button")
        page.wait("document.querySelector('#heat')?.naturalWidth > 0")
        assert page.find("document.querySelector('#attributes').children[1].id") == "why"
        assert f"speak for “{names[0]}”" in page.text("#why p")
        assert page.texts("#attributes button[aria-expanded=true] .name") == [names[0]]
        page.click("#attributes li:nth-child(1) button")
        page.wait("!document.querySelector('#why')")
        assert page.texts("#attributes button[aria-expanded=true]") == []
        assert page.width() <= 390
        assert page.complaints == []
        page.choose_file("#file", rubbish)
        page.wait_visible("#said.bad")
        assert page.text("#said") == capitalised(refusal(address, b"no picture"))
        assert not page.is_visible("#shown.ready")
        assert not page.is_visible("#why")


def refusal(address: str, content: bytes) -> str:
    """What the interface says of a file, in its own sentence."""
    request = urllib.request.Request(
        f"{address}/v1/predict", content, {"Content-Type": "image/png"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    sentence: str = json.loads(refused.value.read())["error"]
    return sentence


def capitalised(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def test_not_sure_is_said_in_words_and_each_attribute_has_one_line(
    address: str, tmp_path: Path
) -> None:
    file = tmp_path / "face.png"
    Image.fromarray(render_face(5, 1, 96).image).save(file)
    attributes = [
        {"name": "Smiling", "probability": 0.996, "present": True, "sure": True},
        {"name": "Eyeglasses", "probability": 0.55, "present": True, "sure": False},
        {"name": "A name that is far too long for a phone", "probability": 0.3}
        | {"present": False, "sure": True},
        {"name": "Bald", "probability": 0.004, "present": False, "sure": True},
    ]  # fmt: skip
    answer = {"width": 96, "height": 96, "left_out": 0}
    answer["faces"] = [{"box": None, "score": None, "attributes": attributes}]
    with browsing() as browser:
        page = browser.page(390, 800)
        page.goto(address)
        page.find(
            "{ const real = fetch; window.fetch = (where, how) => where === 'v1/predict'"
            f" ? Promise.resolve(new Response({json.dumps(json.dumps(answer))}))"
            " : real(where, how); }"
        )
        page.choose_file("#file", file)
        page.wait_visible("#shown.ready")
        shares = page.texts("#attributes .share")
        assert shares == ["over 99 %", "not sure, 55 %", "30 %", "under 1 %"]
        kinds = page.find("[...document.querySelectorAll('li.row')].map(e => e.className)")
        assert kinds == ["row yes", "row unsure", "row no", "row no"]
        heights = page.find(
            "[...document.querySelectorAll('li.row')].map(e => e.getBoundingClientRect().height)"
        )
        assert len(set(heights)) == 1
        assert heights[0] < 45
        assert page.width() <= 390


def test_a_picture_that_is_too_large_is_refused_in_the_same_words(
    address: str, tmp_path: Path
) -> None:
    with urllib.request.urlopen(f"{address}/v1/model", timeout=20) as reply:
        most = json.load(reply)["max_bytes"]
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(most + 1)
    with browsing() as browser:
        page = browser.page(390, 800)
        page.goto(address)
        page.wait("most < Infinity")
        page.choose_file("#file", large)
        page.wait_visible("#said.bad")
        assert page.text("#said") == f"The picture is larger than {most} bytes."
        assert not any("predict" in url for url in page.asked)


def test_another_name_for_this_machine_is_refused(address: str) -> None:
    request = urllib.request.Request(address + "/healthz", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request, timeout=20)

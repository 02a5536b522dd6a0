"""The server's page in a real browser."""

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
        page.click("#attributes li:nth-child(2) button")
        page.wait_visible("#why")
        assert page.text("#what") == names[1]
        page.wait("document.querySelector('#heat').naturalWidth > 0")
        pressed = page.texts("#attributes button[aria-pressed=true] .name")
        assert pressed == [names[1]]
        assert page.width() <= 390
        assert page.complaints == []
        page.choose_file("#file", rubbish)
        page.wait_visible("#said.bad")
        assert not page.is_visible("#shown.ready")
        assert not page.is_visible("#why")


def test_another_name_for_this_machine_is_refused(address: str) -> None:
    request = urllib.request.Request(address + "/healthz", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request, timeout=20)

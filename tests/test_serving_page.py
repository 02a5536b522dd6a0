"""The server's page in a real browser."""

import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tests.test_serving import run as run

from sspl.data.synthetic.render import render_face

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")


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
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        page.set_input_files("#file", str(file))
        page.wait_for_selector("#shown.ready")
        assert page.inner_text("#said") == "One face."
        names = page.locator("#attributes li span:first-child").all_inner_texts()
        shares = page.locator("#attributes .share").all_inner_texts()
        assert sorted(names) == ["Eyeglasses", "Smiling"]
        assert float(shares[0].split()[0]) >= float(shares[1].split()[0])
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390
        assert complaints == []
        page.set_input_files("#file", str(rubbish))
        page.wait_for_selector("#said.bad")
        assert page.locator("#shown.ready").count() == 0
        browser.close()


def test_another_name_for_this_machine_is_refused(address: str) -> None:
    request = urllib.request.Request(address + "/healthz", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request, timeout=20)

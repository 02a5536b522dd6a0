"""A real browser for tests: the program chromium without a window, spoken to over two pipes.

It needs no driver and no package; the messages are those of the Chrome DevTools Protocol.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

CHROMIUM: Final = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")

PATIENCE: Final = 60.0
KEYS: Final = {
    "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
    "Enter": ("Enter", 13, "\r"),
    "Space": (" ", 32, " "),
}
"""Key, code and text of the keys that are no letter or digit."""

Message = dict[str, Any]


class Browser:
    """A running browser; `page` opens a tab."""

    def __init__(self, profile: str) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        arguments = [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run",
            "--disable-background-networking",
        ]  # fmt: skip
        # The browser reads from its file 3 and writes to its file 4.
        joined = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", joined, "bash", *arguments],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._left = b""
        self._number = 0
        self._pages: dict[str, Page] = {}

    def close(self) -> None:
        self._write({"id": 0, "method": "Browser.close"})
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def page(self, width: int = 1280, height: int = 900) -> "Page":
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        session = attached["sessionId"]
        page = self._pages[session] = Page(self, session)
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        return page

    def call(self, method: str, parameters: Message, session: str | None = None) -> Message:
        """Send a command; return its result. Events that come meanwhile reach their pages."""
        number = self.tell(method, parameters, session)
        end = time.monotonic() + PATIENCE
        while True:
            found = self._read(end - time.monotonic())
            if found is None:
                raise TimeoutError(f"the browser does not answer {method}")
            if found.get("id") == number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']['message']}")
                result: Message = found["result"]
                return result
            self._deliver(found)

    def tell(self, method: str, parameters: Message, session: str | None = None) -> int:
        """Send a command whose result nobody waits for; return its number."""
        self._number += 1
        message: Message = {"id": self._number, "method": method, "params": parameters}
        self._write(message | ({} if session is None else {"sessionId": session}))
        return self._number

    def listen(self, seconds: float) -> None:
        """Take events for so long, or until one has come."""
        found = self._read(seconds)
        if found is not None:
            self._deliver(found)

    def _deliver(self, message: Message) -> None:
        page = self._pages.get(message.get("sessionId", ""))
        if page is not None and "method" in message:
            page.hear(message["method"], message["params"])

    def _write(self, message: Message) -> None:
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._out, content) :]

    def _read(self, seconds: float) -> Message | None:
        end = time.monotonic() + seconds
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return None
            found = os.read(self._in, 1 << 16)
            if not found:
                raise RuntimeError("the browser has gone")
            self._left += found
        first, _, self._left = self._left.partition(b"\0")
        message: Message = json.loads(first)
        return message


class Page:
    """A tab.

    Attributes:
        complaints: what the console and errors that nobody caught said.
        asked: addresses of what it loaded or sent.
        refuse: tells of which addresses a request shall fail.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.refuse: Callable[[str], bool] = lambda _: False
        self._loaded = False

    def call(self, method: str, **parameters: Any) -> Message:
        return self._browser.call(method, parameters, self._session)

    def hear(self, event: str, params: Message) -> None:
        if event == "Runtime.consoleAPICalled":
            self.complaints += [str(a.get("value", a)) for a in params["args"]]
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"]["text"])
        elif event == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Fetch.requestPaused":
            # Nobody waits here: somebody else does already, for the result of a command.
            number = {"requestId": params["requestId"]}
            if self.refuse(params["request"]["url"]):
                reason = {"errorReason": "Failed"}
                self._browser.tell("Fetch.failRequest", number | reason, self._session)
            else:
                self._browser.tell("Fetch.continueRequest", number, self._session)

    def goto(self, address: str) -> None:
        self._loaded = False
        self.call("Page.navigate", url=address)
        end = time.monotonic() + PATIENCE
        while not self._loaded:
            assert time.monotonic() < end, f"{address} does not load"
            self._browser.listen(0.2)

    def watch_requests(self) -> None:
        """Ask `refuse` of every request from now on."""
        self.call("Fetch.enable")

    def find(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, JSON-able."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Wait until a JavaScript expression is true; return its value."""
        end = time.monotonic() + PATIENCE
        while not (found := self.find(expression)):
            if time.monotonic() > end:
                raise AssertionError(f"never true: {expression}\n{self.find(BODY)}")
            self._browser.listen(0.05)
        return found

    def text(self, selector: str) -> str:
        return str(self.find(f"document.querySelector({json.dumps(selector)}).innerText"))

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.find(
            f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText)"
        )
        return found

    def attribute(self, selector: str, name: str) -> str:
        return str(
            self.find(
                f"document.querySelector({json.dumps(selector)}).getAttribute({json.dumps(name)})"
            )
        )

    def wait_visible(self, selector: str) -> None:
        self.wait(f"{visible(selector)}")

    def wait_text(self, selector: str, text: str) -> None:
        chosen = json.dumps(selector)
        self.wait(f"document.querySelector({chosen})?.innerText.includes({json.dumps(text)})")

    def is_visible(self, selector: str) -> bool:
        return bool(self.find(visible(selector)))

    def focus(self, selector: str) -> None:
        self.find(f"document.querySelector({json.dumps(selector)}).focus()")

    def click(self, selector: str) -> None:
        """Press the mouse's button in the middle of an element, as a hand would."""
        self.find(f"document.querySelector({json.dumps(selector)}).scrollIntoView()")
        x, y = self.find(
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press a key: one of `KEYS`, a letter or a digit."""
        name, code, text = KEYS.get(key, (key, ord(key.upper()[0]), key))
        # Without a text the key down event alone is sent, as for the arrows.
        pressed = {"key": name, "code": key, "windowsVirtualKeyCode": code}
        down = pressed | ({"text": text} if text else {})
        self.call("Input.dispatchKeyEvent", type="keyDown", **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def choose_file(self, selector: str, file: Path) -> None:
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

    def width(self) -> int:
        """Return how wide the content is; more than the window means that it scrolls sideways."""
        return int(self.find("document.documentElement.scrollWidth"))

    def screenshot(self, file: Path, whole: bool = True) -> None:
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))


BODY: Final = "document.body.innerText"


def visible(selector: str) -> str:
    return f"!!document.querySelector({json.dumps(selector)})?.getClientRects().length"


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser with a profile of its own, closed at the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile)
        try:
            yield browser
        finally:
            browser.close()

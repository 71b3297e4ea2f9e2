"""A headless Chromium, driven over the DevTools protocol through a pair of pipes."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
_ANSWER_S: Final = 30.0


class BrowserError(AssertionError):
    """The browser said no, or nothing."""


class Tab:
    """One page in the browser.

    Parameters
    ----------
    to_browser, from_browser : int
        File descriptors of the pipes; messages end with NUL.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._buffer = b""
        self._last = 0
        self._session: str | None = None
        #: What scripts printed, threw, or were kept from doing.
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its result."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _ANSWER_S
        while True:
            answer = self._receive(deadline, method)
            if answer.get("id") != self._last:
                self._note(answer)
                continue
            if "error" in answer:
                raise BrowserError(f"{method}: {answer['error']}")
            result: dict[str, Any] = answer["result"]
            return result

    def _receive(self, deadline: float, waiting_for: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(self._from, 1 << 16) if ready else b""
            if not part:
                raise BrowserError(f"{waiting_for}: the browser {'closed' if ready else 'does not answer'}")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        decoded: dict[str, Any] = json.loads(message)
        return decoded

    def _note(self, event: dict[str, Any]) -> None:
        method, told = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(json.dumps(told["args"])[:500])
        elif method == "Log.entryAdded" and told["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(f"{told['entry']['source']}: {told['entry']['text']}"[:500])
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {told['message']}")
            self._last += 1
            dismiss = {"id": self._last, "method": "Page.handleJavaScriptDialog", "sessionId": self._session,
                       "params": {"accept": False}}  # fmt: skip
            os.write(self._to, json.dumps(dismiss).encode() + b"\0")

    def open(self, url: str) -> None:
        """Go to an address and wait until the page is there."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression: str) -> Any:
        """Return the value of an expression; a promise is waited for."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise BrowserError(f"{expression}: {json.dumps(told['exceptionDetails'])[:500]}")
        return told["result"].get("value")

    def until(self, expression: str, seconds: float = 15.0) -> Any:
        """Wait until an expression is true and return its value."""
        deadline = time.monotonic() + seconds
        while not (found := self.js(expression)):
            if time.monotonic() > deadline:
                shown = self.js("document.body.innerText.slice(0, 1500)")
                raise BrowserError(f"not within {seconds:g} s: {expression}\nthe page says:\n{shown}")
            time.sleep(0.05)
        return found

    def texts(self, selector: str) -> list[str]:
        """Return the visible texts of all elements that `selector` finds."""
        found = self.js(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText)")
        return [str(text) for text in found]

    def size(self, width: int, height: int = 900) -> None:
        """Set the size of the window, CSS px."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def scheme(self, name: str) -> None:
        """Prefer ``light`` or ``dark``."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def screenshot(self, path: Path) -> None:
        """Save a picture of the whole page as PNG."""
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))


@contextmanager
def chromium(binary: Path, profile: Path, *flags: str) -> Iterator[Tab]:
    """Yield a tab of a fresh browser; ends the browser afterwards.

    Parameters
    ----------
    binary : Path
    profile : Path
        Folder for its data; has to be empty or not there.
    *flags : str
        More of its command line.
    """
    command_read, command_write = os.pipe()
    answer_read, answer_write = os.pipe()

    def wire() -> None:
        # The browser reads commands from 3 and writes answers to 4; the pipes may have these very numbers.
        low, high = os.dup(command_read), os.dup(answer_write)
        os.dup2(low, 13)
        os.dup2(high, 14)
        os.dup2(13, 3)
        os.dup2(14, 4)

    with (profile.parent / f"{profile.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(binary), *_FLAGS, *flags, f"--user-data-dir={profile}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=wire, close_fds=False,
        )  # fmt: skip
    os.close(command_read)
    os.close(answer_write)
    try:
        yield Tab(command_write, answer_read)
    finally:
        os.close(command_write)  # the browser ends when its pipe does
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(answer_read)

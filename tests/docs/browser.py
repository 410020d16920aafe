"""Headless Chromium, driven over its DevTools pipe: what a reader sees, without a driver to install or to match.

    with Browser() as browser:
        browser.open("http://localhost:8000/")
        browser.evaluate("document.title")

The protocol: https://chromedevtools.github.io/devtools-protocol/. Messages are JSON, each ended by a zero byte, written
to the browser's file descriptor 3 and read from its 4.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any, Self

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
TIMEOUT = 60.0  # seconds, for what a busy machine does slowly; nothing waits longer than it must


def find() -> str | None:
    """Return the path of Chromium, if it is installed."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _start(command: list[str]) -> tuple[int, int, int]:
    """Start a program with pipes on its descriptors 3 and 4; return its id and our ends."""
    pipes = [os.pipe(), os.pipe()]
    (theirs, to), (from_, ours) = ((fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in pipe) for pipe in pipes)
    for end in (*pipes[0], *pipes[1]):
        os.close(end)  # these might have been 3 or 4 themselves
    actions = [(os.POSIX_SPAWN_DUP2, theirs, 3), (os.POSIX_SPAWN_DUP2, ours, 4)]
    silent = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
    process = os.posix_spawn(command[0], command, os.environ, file_actions=[*actions, silent])
    os.close(theirs)
    os.close(ours)
    return process, to, from_


class Browser:
    """One browser with an empty profile and one page; `events` holds what the page has reported since `open`."""

    def __enter__(self) -> Self:
        path = find()
        assert path, "Chromium is not installed"
        self._buffer, self._last, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        with contextlib.ExitStack() as stack:
            profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            process, self._to, self._from = _start([path, *FLAGS, f"--user-data-dir={profile}", "about:blank"])
            stack.callback(os.waitpid, process, 0)
            stack.callback(os.kill, process, signal.SIGTERM)
            stack.callback(os.close, self._to)
            stack.callback(os.close, self._from)
            self._attach()
            self._end = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()

    def _attach(self) -> None:
        pages = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in pages if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Go to a page, and wait until it has loaded and its equations are set."""
        self.call("Page.navigate", url="about:blank")  # so that a new anchor alone is a new page, too
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")
        self.call(
            "Runtime.evaluate", expression="window.MathJax?.startup?.promise ?? Promise.resolve()", awaitPromise=True
        )

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, in kinds that JSON has."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + TIMEOUT
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"{expression} has not come true"
            time.sleep(0.02)

    def show(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the size of the window, and whether the reader prefers dark pages."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """Save the whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip={**size, "scale": 1})["data"]
        path.write_bytes(base64.b64decode(data))

    def requests(self) -> list[str]:
        """Return the address of everything that the page has asked for."""
        sent = [event["params"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent]

    def complaints(self) -> list[str]:
        """Return exceptions, console errors and warnings, and requests that failed."""
        kinds = {
            "Runtime.exceptionThrown": lambda p: json.dumps(p["exceptionDetails"]),
            "Runtime.consoleAPICalled": lambda p: json.dumps(p["args"]) if p["type"] in ("error", "warning") else "",
            "Log.entryAdded": lambda p: p["entry"]["text"] if p["entry"]["level"] in ("error", "warning") else "",
            "Network.loadingFailed": lambda p: p["errorText"],
            "Network.responseReceived": lambda p: p["response"]["url"] if p["response"]["status"] >= 400 else "",
        }
        texts = [kinds[event["method"]](event["params"]) for event in self.events if event["method"] in kinds]
        return [text for text in texts if text]

    def call(self, method: str, **params: Any) -> Any:
        """Send a command and return its result; events that come before it are kept."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._last:
            if "method" in answer:
                self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], TIMEOUT)
            assert ready, "Chromium does not answer"
            data = os.read(self._from, 1 << 16)
            assert data, "Chromium has ended"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)  # type: ignore[no-any-return]

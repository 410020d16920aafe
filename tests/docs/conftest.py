"""The built site, served on localhost, and a browser that looks at it."""

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.docs.browser import Browser, find

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site() -> Path:
    """Return the folder of the built site, brought up to date."""
    folder = ROOT / "out" / "docs"
    command = [sys.executable, "-m", "sphinx", "--quiet", "-d", ROOT / "out" / "doctrees", ROOT / "docs", folder]
    subprocess.run(command, check=True, cwd=ROOT)
    return folder


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Serve the site; return the address of its root."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return one browser for all tests; a missing one is a skip at a desk, a failure in continuous integration."""
    if find() is None:
        text = "Chromium is not installed (on Debian: apt-get install chromium)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(text)
    with Browser() as started:
        yield started

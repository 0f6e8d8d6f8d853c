"""A browser without a screen, spoken to through a pipe: pages are measured, requests and errors are told."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time

import pytest

# The browser reads from its descriptor 3 and writes to 4.
_WITH_PIPES = """
import os, sys
os.dup2(int(sys.argv[1]), 103), os.dup2(int(sys.argv[2]), 104)
os.dup2(103, 3), os.dup2(104, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def executable():
    """The browser, or a skipped test."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser to look at the page with ({', '.join(NAMES)})")
    return found


class Browser:
    """One page. `events` has what the browser told unasked."""

    def __init__(self, process, to, back):
        self._process, self._to, self._back = process, to, back
        self._number, self._buffer, self._session = 0, b"", None
        self.events = []

    def open(self, url):
        """Loads a page and waits for it."""
        self.events.clear()
        self.ask("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._read()

    def attach(self):
        """Opens an empty page to work with."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **parameters):
        """Calls a method of the browser's protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            told = self._read()
            if told.get("id") == self._number:
                assert "error" not in told, told
                return told["result"]

    def size(self, width, height=900):
        """Makes the window so wide."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, kind="screen", scheme="light"):
        """Screen or print, light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", media=kind, features=features)

    def value(self, expression):
        """Of a JavaScript expression, asked from outside: the page itself may run none."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self, path):
        """The whole page as a PNG."""
        found = self.ask("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(found["data"]))

    def pdf(self):
        """The page as it prints."""
        return base64.b64decode(self.ask("Page.printToPDF", printBackground=True)["data"])

    def _read(self):
        end = time.monotonic() + 60
        while b"\0" not in self._buffer:
            left = end - time.monotonic()
            ready, _, _ = select.select([self._back], [], [], max(left, 0))
            chunk = os.read(self._back, 1 << 20) if ready else b""
            if not chunk:
                raise RuntimeError("the browser says nothing more")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        told = json.loads(message)
        if "method" in told:
            self.events.append(told)
        return told


@contextlib.contextmanager
def browser():
    """A running browser; the test is skipped where there is none, or it cannot start."""
    path = executable()
    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _WITH_PIPES,
                str(to_read),
                str(back_write),
                path,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--hide-scrollbars",
                "--remote-debugging-pipe",
                f"--user-data-dir={profile}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(to_read, back_write),
        )
        os.close(to_read)
        os.close(back_write)
        one = Browser(process, to_write, back_read)
        try:
            try:
                one.attach()
            except (RuntimeError, OSError):
                pytest.skip("the browser cannot start here")
            yield one
        finally:
            with contextlib.suppress(RuntimeError, OSError):
                one.ask("Browser.close")
            process.terminate()
            process.wait(timeout=20)
            os.close(to_write)
            os.close(back_read)

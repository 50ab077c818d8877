"""Headless Chromium driven by its own protocol over a pipe: real clicks and keys, screenshots, its complaints."""

from __future__ import annotations

import base64
import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from edgerec_devices.web.chromium import find_chromium, own_flags

ANSWER_S = 300.0
KEYS = {
    "Tab": (9, ""),
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    " ": (32, " "),
    "ArrowDown": (40, ""),
    "ArrowLeft": (37, ""),
    "ArrowRight": (39, ""),
    "ArrowUp": (38, ""),
}


class Chrome:
    """A running browser with a profile of its own; pages are opened in it."""

    def __init__(self, orders: IO[bytes], said: IO[bytes]) -> None:
        self._orders, self._said = orders, said
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._number = 0
        self.events: list[dict[str, Any]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        rest = b""
        with suppress(ValueError, OSError):
            while part := os.read(self._said.fileno(), 1 << 16):
                *messages, rest = (rest + part).split(b"\0")
                for message in map(json.loads, messages):
                    if "id" in message:
                        self._answers[message["id"]].put(message)
                    else:
                        self.events.append(message)

    def ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """What the browser answers to a command of its protocol."""
        self._number += 1
        answers = self._answers[self._number] = queue.Queue()
        message = {"id": self._number, "method": method, "params": params}
        self._orders.write(json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        self._orders.flush()
        answer = answers.get(timeout=ANSWER_S)
        assert "error" not in answer, f"{method}: {answer}"
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, address: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        """A page of that size, loaded."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.ask(f"{domain}.enable")
        page.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.ask("Emulation.setEmulatedMedia", features=[scheme, {"name": "prefers-reduced-motion", "value": "reduce"}])
        page.go(address)
        return page


class Page:
    """One page."""

    def __init__(self, browser: Chrome, session: str) -> None:
        self._browser, self._session = browser, session

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.ask(method, self._session, **params)

    def go(self, address: str) -> None:
        """Open an address in it."""
        self.ask("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression: str) -> Any:
        """The value of an expression, awaited."""
        told = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def until(self, expression: str, seconds: float = 60.0) -> Any:
        """Wait until an expression holds."""
        end = time.monotonic() + seconds
        while True:
            with suppress(AssertionError):  # a page that is just being replaced
                if value := self.js(expression):
                    return value
            assert time.monotonic() < end, f"it never held: {expression}\n{self.complaints()}"
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of an element, which is scrolled into view."""
        place = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.ask("Input.insertText", text=text)

    def press(self, key: str, times: int = 1) -> None:
        """Press a key."""
        code, text = KEYS[key]
        for _ in range(times):
            down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
            self.ask("Input.dispatchKeyEvent", key=key, windowsVirtualKeyCode=code, **down)
            self.ask("Input.dispatchKeyEvent", key=key, windowsVirtualKeyCode=code, type="keyUp")

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """What is seen, as PNG."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and what was thrown and caught by nobody."""
        found = []
        for event in list(self._browser.events):
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(params["exceptionDetails"])[:500])
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(json.dumps(params["args"])[:500])
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"] + " " + params["entry"].get("url", ""))
        return found


@contextmanager
def chrome(*flags: str) -> Iterator[Chrome]:
    """A fresh browser, until the block ends."""
    order_end, orders = os.pipe()
    said, say_end = os.pipe()
    with tempfile.TemporaryDirectory(prefix="er-", ignore_cleanup_errors=True) as profile:
        arguments = [find_chromium(), *own_flags(), *flags, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        # Its protocol is spoken on the descriptors 3 and 4.
        command = ["bash", "-c", f'exec "$@" 3<&{order_end} 4>&{say_end}', "bash", *arguments, "about:blank"]
        process = subprocess.Popen(
            command,
            pass_fds=(order_end, say_end),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "XDG_CONFIG_HOME": profile},
        )
        os.close(order_end)
        os.close(say_end)
        with os.fdopen(orders, "wb") as writing, os.fdopen(said, "rb") as reading:
            browser = Chrome(writing, reading)
            try:
                yield browser
            finally:
                with suppress(Exception):
                    browser.ask("Browser.close")
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

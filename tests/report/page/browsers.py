"""Chromium and Firefox driven by WebDriver BiDi over a WebSocket, with the standard library only."""

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = {"chromium": ("chromium", "chromedriver"), "firefox": ("firefox-esr",)}
_START_S = 60


class WebSocket:
    """Client of one WebSocket that sends and receives text."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self.socket = socket.create_connection((host, port), timeout=_START_S)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.file = self.socket.makefile("rb")
        status = self.file.readline()
        while self.file.readline() not in (b"\r\n", b""):
            pass
        if b"101" not in status:
            raise OSError(f"no WebSocket at port {port}: {status!r}")

    def send(self, text: str) -> None:
        payload, mask = text.encode(), os.urandom(4)
        size = len(payload)
        short = size if size < 126 else 126 if size < 65_536 else 127
        length = b"" if size < 126 else size.to_bytes(2 if size < 65_536 else 8)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        self.socket.sendall(bytes([0x81, 0x80 | short]) + length + mask + masked)

    def receive(self) -> str:
        parts = []
        while True:
            first, second = self.file.read(2)
            length = second & 127
            if length > 125:
                length = int.from_bytes(self.file.read(2 if length == 126 else 8))
            content = self.file.read(length)
            if first & 15 == 8:
                raise OSError("the browser closed its WebSocket")
            if first & 15 in (0, 1):
                parts.append(content)
                if first & 128:
                    return b"".join(parts).decode()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


class Browser:
    """A browser with one page. `messages` holds its console, `requests` the addresses that it asked for."""

    def __init__(self, name: str, connection: WebSocket) -> None:
        self.name, self.connection, self.number = name, connection, 0
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.context = ""

    def call(self, method: str, **parameters: object) -> Any:
        """Send a command and return its result; collect the events that come before it."""
        self.number += 1
        self.connection.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.connection.receive())
            if answer.get("id") == self.number:
                assert answer["type"] == "success", f"{method}: {answer}"
                return answer["result"]
            if answer.get("method") == "log.entryAdded":
                self.messages.append(f"{answer['params']['level']}: {answer['params']['text']}")
            elif answer.get("method") == "network.beforeRequestSent":
                self.requests.append(answer["params"]["request"]["url"])

    def start(self) -> None:
        self.context = self.call("browsingContext.getTree")["contexts"][0]["context"]
        self.call("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
        self.resize(1400, 1000)

    def resize(self, width: int, height: int) -> None:
        viewport = {"width": width, "height": height}
        self.call("browsingContext.setViewport", context=self.context, viewport=viewport)

    def open(self, file: Path) -> None:
        self.call("browsingContext.navigate", context=self.context, url=file.as_uri(), wait="complete")
        self.wait("'ready' in document.documentElement.dataset")

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, by way of JSON; a promise is awaited.

        `explorer` is the first embedding of the page once that is ready.
        """
        answer = self.call(
            "script.callFunction",
            functionDeclaration="async () => { const [explorer] = await (window.fgsslPage ?? []);"
            f" return JSON.stringify(await ({expression})); }}",
            target={"context": self.context},
            awaitPromise=True,
        )
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return json.loads(answer["result"].get("value", "null"))

    def wait(self, condition: str, timeout_s: float = 30) -> None:
        """Wait until a JavaScript condition holds."""
        end = time.monotonic() + timeout_s
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"{condition} does not hold after {timeout_s} s"
            time.sleep(0.05)

    def pointer(self, *steps: dict[str, object], shift: bool = False) -> None:
        """Move and press the mouse; with `shift`, while that key is down."""
        mouse = {"type": "pointer", "id": "mouse", "actions": list(steps)}
        if shift:
            held = {"type": "key", "id": "keys", "actions": [{"type": "keyDown", "value": "\ue008"}]}
            self.call("input.performActions", context=self.context, actions=[held])
        self.call("input.performActions", context=self.context, actions=[mouse])
        if shift:
            self.call("input.releaseActions", context=self.context)

    def move(self, x: float, y: float) -> None:
        self.pointer(move(x, y))

    def click(self, x: float, y: float) -> None:
        self.pointer(move(x, y), {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0})

    def drag(self, corners: Sequence[tuple[float, float]], shift: bool = False) -> None:
        first, *others = corners
        down, up = {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}
        self.pointer(move(*first), down, *[move(*corner) for corner in others], up, shift=shift)

    def press(self, *keys: str) -> None:
        pairs = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        actions = [{"type": "key", "id": "keys", "actions": pairs}]
        self.call("input.performActions", context=self.context, actions=actions)

    def screenshot(self, file: Path) -> None:
        taken = self.call("browsingContext.captureScreenshot", context=self.context)
        file.write_bytes(base64.b64decode(taken["data"]))

    def print(self, file: Path) -> None:
        printed = self.call("browsingContext.print", context=self.context, background=True)
        file.write_bytes(base64.b64decode(printed["data"]))


def move(x: float, y: float) -> dict[str, object]:
    return {"type": "pointerMove", "x": round(x), "y": round(y), "duration": 0}


@contextlib.contextmanager
def opened(name: str, folder: Path) -> Iterator[Browser]:
    """Start a headless browser whose files lie in `folder`; skip the test where it is not installed."""
    missing = [program for program in PROGRAMS[name] if shutil.which(program) is None]
    if missing:
        reason = f"{', '.join(missing)} not installed: apt-get install {' '.join(missing)}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    port = _free_port()
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(_command(name, port, folder), stdout=log, stderr=log, env=_environment(folder))
    try:
        connection = _chromium(port, folder) if name == "chromium" else _firefox(port)
        browser = Browser(name, connection)
        if name == "firefox":
            browser.call("session.new", capabilities={})
        browser.start()
        try:
            yield browser
        finally:
            with contextlib.suppress(OSError, AssertionError):
                browser.call("browser.close" if name == "firefox" else "session.end")
            connection.close()
    finally:
        process.terminate()
        process.wait(30)


def _command(name: str, port: int, folder: Path) -> list[str]:
    if name == "chromium":
        return ["chromedriver", f"--port={port}"]
    profile = folder / "profile"
    profile.mkdir()
    return ["firefox-esr", "--headless", "--no-remote", f"--remote-debugging-port={port}", "--profile", str(profile)]


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(folder), "MOZ_HEADLESS_WIDTH": "1400", "MOZ_HEADLESS_HEIGHT": "1000"}


def _chromium(port: int, folder: Path) -> WebSocket:
    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    arguments.append(f"--user-data-dir={folder / 'profile'}")
    wanted = {"webSocketUrl": True, "goog:chromeOptions": {"args": arguments, "binary": shutil.which("chromium")}}
    body = json.dumps({"capabilities": {"alwaysMatch": wanted}}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/session", body, {"Content-Type": "application/json"})
    _until_open(port)
    with urllib.request.urlopen(request, timeout=_START_S) as answer:
        address = json.load(answer)["value"]["capabilities"]["webSocketUrl"]
    return WebSocket("127.0.0.1", port, "/" + address.split("/", 3)[3])


def _firefox(port: int) -> WebSocket:
    _until_open(port)
    return WebSocket("127.0.0.1", port, "/session")


def _until_open(port: int) -> None:
    end = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end, f"nothing listens at port {port}"
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])

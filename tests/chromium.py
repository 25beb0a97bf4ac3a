"""A real browser for tests: Chromium without a window, spoken to in its own protocol.

The WebSocket client is aiohttp's, which the runner has anyway. Where there is no Chromium,
`needs_chromium` skips and says so.
"""

import asyncio
import base64
import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

PATH = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
needs_chromium = pytest.mark.skipif(not PATH, reason="no chromium on PATH: nothing to look with")

ANSWER_MAX_S = 100.0
WAIT_MAX_S = 100.0
_FLAGS = (
    *(
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
    ),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-default-apps", "--metrics-recording-only", "--mute-audio", "--no-proxy-server"),
    *("--remote-debugging-port=0", "--disable-extensions", "--hide-scrollbars"),
)


class Tab:
    """One page, with all that it complained of."""

    def __init__(self, browser: "Chromium", session: str) -> None:
        self._browser = browser
        self._session = session
        self.complaints: list[str] = []  # console errors, exceptions, refused loads
        self.dialogs: list[str] = []
        self._loaded = asyncio.Event()

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser something about this page."""
        answer: dict[str, Any] = await self._browser.call(method, session=self._session, **params)
        return answer

    def hear(self, method: str, params: dict[str, Any]) -> None:
        """Note what the browser tells of this page."""
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Page.javascriptDialogOpening":
                self.dialogs.append(params["message"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
                self.complaints.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url')}")

    async def look_like(
        self, *, width: int = 1300, height: int = 900, dark: bool = False, script: bool = True
    ) -> None:
        """The size of the window, its colours, and whether scripts run."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call("Emulation.setScriptExecutionDisabled", value=not script)

    async def open(self, url: str) -> None:
        """Go there, and wait until it is loaded."""
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), WAIT_MAX_S)

    async def run(self, script: str) -> Any:
        """The value of an expression on the page."""
        answer = await self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until an expression on the page holds, also across pages."""
        async with asyncio.timeout(WAIT_MAX_S):
            while True:
                try:
                    if await self.run(script):
                        return
                except (AssertionError, BrowserError):
                    pass  # between two pages there is none to ask
                await asyncio.sleep(0.05)

    async def text(self) -> str:
        """What a person reads on the page."""
        return str(await self.run("document.body.innerText"))

    async def click(self, selector: str) -> None:
        """Click on the first element of this selector with the mouse, where it stands."""
        await self.until("document.readyState === 'complete'")
        place = await self.run(
            f"(() => {{ const it = document.querySelector({selector!r}); "
            "it.scrollIntoView({block: 'center'}); const box = it.getBoundingClientRect(); "
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=place[0],
                y=place[1],
                button="left",
                clickCount=1,
            )

    async def press(self, key: str) -> None:
        """Press a key."""
        text = "\r" if key == "Enter" else key
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        shot = await self.call(
            "Page.captureScreenshot",
            captureBeyondViewport=True,
            clip={"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1},
        )
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))


class BrowserError(Exception):
    """The browser refused what was asked."""


class Chromium:
    """One browser process; pages of it know nothing of each other's cookies."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tabs: dict[str, Tab] = {}
        self._closing: set[asyncio.Task[Any]] = set()

    async def read(self) -> None:
        """Hand on what the browser says, until it is gone."""
        async for message in self._socket:
            said = message.json()
            if "id" in said:
                asked = self._asked.pop(said["id"], None)
                if asked is not None and not asked.done():
                    asked.set_result(said)
            elif (tab := self._tabs.get(said.get("sessionId", ""))) is not None:
                tab.hear(said["method"], said["params"])
                if said["method"] == "Page.javascriptDialogOpening":
                    closing = asyncio.create_task(
                        tab.call("Page.handleJavaScriptDialog", accept=False)
                    )
                    self._closing.add(closing)

    async def call(self, method: str, *, session: str | None = None, **params: Any) -> Any:
        """Ask the browser something. Raises BrowserError when it refuses."""
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        request: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            request["sessionId"] = session
        await self._socket.send_json(request)
        said = await asyncio.wait_for(answer, ANSWER_MAX_S)
        if "error" in said:
            raise BrowserError(f"{method}: {said['error']}")
        return said["result"]

    async def tab(self) -> Tab:
        """A new page with cookies of its own."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        target = await self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        made = Tab(self, attached["sessionId"])
        self._tabs[attached["sessionId"]] = made
        for part in ("Page", "Runtime", "Log"):
            await made.call(f"{part}.enable")
        await made.look_like()
        return made


@asynccontextmanager
async def chromium(profile: Path) -> AsyncIterator[Chromium]:
    """A browser with an empty profile in this folder."""
    process = await asyncio.create_subprocess_exec(
        PATH,
        *_FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        address = await asyncio.wait_for(_address(process), WAIT_MAX_S)
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(address, max_msg_size=0) as socket,
        ):
            browser = Chromium(socket)
            reading = asyncio.create_task(browser.read())
            try:
                yield browser
            finally:
                reading.cancel()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    async for line in process.stderr:
        if b"DevTools listening on " in line:
            return line.decode().partition("listening on ")[2].strip()
    raise AssertionError("chromium ended before it listened")

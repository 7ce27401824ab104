"""Chromium and Firefox as people use them: profiles, tabs, files that are chosen, dropped and pasted."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.bridge import Bridge, Failed, Remote, function

# Both browsers find this host on this machine. It is not localhost, so its pages are no secure context.
PLAIN_HOST = "example.org"
PROGRAMS = {"chromium": "chromium", "firefox": "firefox-esr"}
WINDOW = {"width": 1280, "height": 900}
LAUNCH: dict[str, dict[str, Any]] = {
    "chromium": {
        "browser": "chrome",
        "args": [
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1",
        ],
    },
    "firefox": {
        "browser": "firefox",
        # For tests.support.folders.
        "args": ["--remote-allow-system-access"],
        "extraPrefsFirefox": {
            "network.dns.localDomains": PLAIN_HOST,
            "dom.security.https_first": False,
            # Firefox's own questions can be answered at once.
            "security.dialog_enable_delay": 0,
            # Content processes that wait for the next tab would be counted as the tab's.
            "dom.ipc.processPrelaunch.enabled": False,
        },
    },
}
# Tells what the policy of the page forbade: only Chromium says so in its console.
WATCH = """() => addEventListener("securitypolicyviolation", (event) =>
    console.error(`forbidden by ${event.effectiveDirective}: ${event.blockedURI} ${event.sample}`))"""
# Chromium reports each answer above 399 as an error, expected or not. Firefox reports none.
REFUSED = re.compile(r"Failed to load resource: (the server responded with a status of \d+|net::ERR_)")
# Chromium says so of each page over plain HTTP that has the field.
NEEDS_HTTPS = re.compile("The Cross-Origin-Opener-Policy header has been ignored")


class Tab:
    """A tab; `trouble` has what it should not have said."""

    def __init__(self, page: Remote, kind: str) -> None:
        self.page = page
        self.kind = kind
        self.events: list[tuple[str, Any]] = []
        # Patterns of messages that would be trouble elsewhere, and of dialogs.
        self.expected: list[str] = []
        # How the next dialogs are answered: `accept` or `dismiss`.
        self.answer = "accept"
        page.call("evaluateOnNewDocument", function(WATCH))
        page.bridge.listen(page, self._hear, "console", "pageerror", "dialog", "request", "response")

    def _hear(self, event: str, value: Any) -> None:
        self.events.append((event, value))
        if event == "dialog":
            # Not waited for: this runs while another call is waited for.
            value["dialog"].begin(self.answer)

    def told(self, event: str) -> list[Any]:
        """The events of a kind so far: `console`, `pageerror`, `dialog`, `request` or `response`."""
        self.page.call("url")
        return [value for name, value in self.events if name == event]

    def trouble(self) -> list[str]:
        """Errors and warnings of the console, errors of scripts and dialogs that were not expected."""
        found = [
            f"{value['kind']}: {value['text']}"
            for value in self.told("console")
            if value["kind"] in ("error", "warn", "warning", "assert")
            and not (REFUSED.match(value["text"]) and "/page/" not in value["url"])
            and not NEEDS_HTTPS.match(value["text"])
        ]
        found += [f"script: {value['text']}" for value in self.told("pageerror")]
        found += [f"dialog: {value['kind']} {value['text']}" for value in self.told("dialog")]
        return [one for one in found if not any(re.search(known, one) for known in self.expected)]

    def go(self, url: str, wait: str = "load") -> int:
        """Open a URL; returns the status of the answer."""
        status: int = self.page.call("goto", url, {"waitUntil": wait}).call("status")
        return status

    def js(self, source: str, *arguments: Any) -> Any:
        """Call a function of JavaScript in the page; returns its value, awaited."""
        return self.page.call("evaluate", function(source), *arguments)

    def handle(self, source: str, *arguments: Any) -> Remote:
        """Call a function of JavaScript in the page; returns its value, which stays there."""
        handle: Remote = self.page.call("evaluateHandle", function(source), *arguments)
        return handle

    def until(self, source: str, *arguments: Any, seconds: float = 30) -> Any:
        """Wait until a function of JavaScript returns something true; returns that."""
        end = time.monotonic() + seconds
        failure = ""
        while time.monotonic() < end:
            try:
                if value := self.js(source, *arguments):
                    return value
            except Failed as error:
                # A page that went away is asked again when the next one is there.
                failure = str(error)
            time.sleep(0.02)
        raise AssertionError(f"{seconds} s in vain: {source} {failure}\n{self.text()}\n{self.trouble()}")

    def text(self, selector: str = "body") -> str:
        """The text that a person sees in an element."""
        seen: str = self.js("(selector) => document.querySelector(selector)?.innerText ?? ''", selector)
        return seen

    def until_text(self, pattern: str, selector: str = "body", seconds: float = 30) -> str:
        """Wait until a person sees a pattern in an element; returns its text."""
        source = """(selector, pattern) => {
            const seen = document.querySelector(selector)?.innerText ?? "";
            return new RegExp(pattern, "su").test(seen) && seen;
        }"""
        seen: str = self.until(source, selector, pattern, seconds=seconds)
        return seen

    def click(self, selector: str) -> None:
        """Click on what a selector finds, as a mouse does; puppeteer's `::-p-text(…)` finds by text."""
        self.page.call("locator", selector).call("click")

    def press(self, *keys: str) -> None:
        """Press keys one after another; `Control+V` together."""
        for key in keys:
            *held, last = key.split("+")
            for one in held:
                self.page.call("keyboard.down", one)
            self.page.call("keyboard.press", last)
            for one in reversed(held):
                self.page.call("keyboard.up", one)

    def type(self, text: str) -> None:
        """Type text where the focus is."""
        self.page.call("keyboard.type", text)

    def choose(self, selector: str, *paths: Path) -> None:
        """Choose files, or a folder, in an input without opening its dialog."""
        self.page.call("$", selector).call("uploadFile", *map(str, paths))

    @contextmanager
    def choosing(self, selector: str = "", key: str = "") -> Iterator[Callable[..., None]]:
        """Open the browser's dialog for files by a click, or by a key; yields what chooses in it."""
        waiting = self.page.begin("waitForFileChooser")
        # Keys and clicks can overtake the order to wait for the dialog until the page has answered something.
        self.js("() => true")
        if selector:
            self.click(selector)
        else:
            self.press(key)
        chooser = self.page.bridge.wait(waiting)
        yield lambda *paths: chooser.call("accept", list(map(str, paths)))

    def files(self, *paths: Path) -> Remote:
        """The `FileList` of files of this machine, as a chooser would hand them to the page."""
        source = """() => Object.assign(document.createElement("input"), { type: "file", multiple: true })"""
        element = self.handle(source)
        element.call("uploadFile", *map(str, paths))
        return self.handle("(element) => element.files", element)

    def drop(self, files: Remote, selector: str = "body") -> None:
        """Drop a list of `File` objects, or a `DataTransfer`: events that scripts made, with true files."""
        source = """(files, selector) => {
            const dataTransfer = files instanceof DataTransfer ? files : new DataTransfer();
            for (const file of files === dataTransfer ? [] : files) {
                dataTransfer.items.add(file);
            }
            const target = document.querySelector(selector);
            for (const type of ["dragenter", "dragover", "drop"]) {
                target.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
            }
        }"""
        self.js(source, files, selector)

    def paste(self, content: "str | Remote", kind: str = "") -> None:
        """Paste text, or a list of `File` objects: an event that a script made."""
        source = """(content, type) => {
            const clipboardData = new DataTransfer();
            if (typeof content === "string") {
                clipboardData.setData(type, content);
            } else {
                [...content].forEach((file) => clipboardData.items.add(file));
            }
            const event = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
            if (event.clipboardData.items.length === 0) {
                // Firefox makes one of its own.
                [...content].forEach((file) => event.clipboardData.items.add(file));
            }
            document.body.dispatchEvent(event);
        }"""
        self.js(source, content, kind)

    def drag(self, *paths: Path, at: tuple[int, int] = (400, 300)) -> None:
        """Drag files and folders from this machine and drop them, in Chromium."""
        session = self.page.call("createCDPSession")
        data = {"items": [], "files": list(map(str, paths)), "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            event = {"type": kind, "x": at[0], "y": at[1], "data": data}
            session.call("send", "Input.dispatchDragEvent", event)
        session.call("detach")

    def screenshot(self, path: Path, **options: Any) -> None:
        """Save a picture of the tab."""
        self.page.call("screenshot", {"path": str(path), **options})

    def size(self, width: int, height: int, **more: Any) -> None:
        """Change the size of the window; `isMobile` and `deviceScaleFactor` are possible, too."""
        self.page.call("setViewport", {"width": width, "height": height, **more})

    def close(self, answer: str | None = None) -> None:
        """Close the tab; with an answer the page may ask about it, which gets that answer."""
        if answer is None:
            self.page.call("close")
            return
        self.answer = answer
        self.page.call("close", {"runBeforeUnload": True})


class Profile:
    """What a browser keeps for one person, apart from other profiles; empty at first."""

    def __init__(self, browser: "Browser", context: Remote) -> None:
        self.browser = browser
        self._context = context
        self.tabs: list[Tab] = []

    def tab(self, url: str = "", **preparations: Any) -> Tab:
        """Open a tab; preparations are calls of puppeteer's Page before the URL is opened."""
        tab = Tab(self._context.call("newPage"), self.browser.kind)
        self.tabs.append(tab)
        tab.size(**WINDOW)
        for call, argument in preparations.items():
            tab.page.call(call, argument)
        if url:
            tab.go(url)
        return tab

    def allow_clipboard(self, origin: str) -> None:
        """Let pages of an origin use the clipboard; Firefox does so without being asked."""
        if self.browser.kind == "chromium":
            permissions = ["clipboard-read", "clipboard-write", "clipboard-sanitized-write"]
            self._context.call("overridePermissions", origin, permissions)

    def close(self) -> None:
        """Forget everything."""
        self._context.call("close")


class Browser:
    """A running browser; `kind` is chromium or firefox."""

    def __init__(self, kind: str, remote: Remote) -> None:
        self.kind = kind
        self.remote = remote
        self.pid: int = remote.call("process").call("pid")

    @contextmanager
    def profile(self, downloads: Path | None = None) -> Iterator[Profile]:
        """A fresh profile, which saves files in a directory; no tab may say anything unexpected."""
        saving = {"policy": "allow", "downloadPath": str(downloads)}
        options = {"downloadBehavior": saving} if downloads else {}
        profile = Profile(self, self.remote.call("createBrowserContext", options))
        try:
            yield profile
            trouble = [line for tab in profile.tabs for line in tab.trouble()]
            assert not trouble, trouble
        finally:
            profile.close()


@contextmanager
def running(kind: str, **options: Any) -> Iterator[Browser]:
    """Run a browser; the options are puppeteer's, beside those that every browser gets."""
    program = shutil.which(PROGRAMS[kind])
    if program is None:
        pytest.skip(f"{PROGRAMS[kind]} is not installed")
    launch = {**LAUNCH[kind], "executablePath": program, "headless": True, "defaultViewport": None}
    for name, value in options.items():
        before = launch.get(name)
        if isinstance(before, dict):
            value = {**before, **value}
        elif isinstance(before, list):
            value = [*before, *value]
        launch[name] = value
    with Bridge() as bridge:
        remote = Remote(bridge).call("launch", launch)
        try:
            yield Browser(kind, remote)
        finally:
            remote.call("close")

"""Uppy in a page of Chromium (see tests/node/page.mjs)."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.support.node import DIRECTORY
from tests.support.servers import until

ONLINE = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}


def script() -> str:
    """Bundle the script of the page."""
    return bundled((DIRECTORY / "page.mjs").read_text(encoding="utf-8"))


def bundled(source: str) -> str:
    """Bundle a script with the packages that it imports."""
    programs = [str(path) for path in DIRECTORY.glob("node_modules/@esbuild/*/bin/esbuild")]
    if not programs:
        pytest.skip("the packages of tests/node are not installed: `make clients` does that if there is npm")
    command = [programs[0], "--bundle", "--format=iife", "--log-level=warning"]
    done = subprocess.run(command, cwd=DIRECTORY, input=source, capture_output=True, text=True, check=True)
    return done.stdout


class Tab:
    """A tab in which Uppy uploads files."""

    def __init__(self, browser: webdriver.Chrome, page: str, bundle: str) -> None:
        self._browser = browser
        browser.switch_to.new_window("tab")
        self._handle = browser.current_window_handle
        browser.get(page)
        browser.execute_script(bundle)
        browser.execute_script(
            "document.body.innerHTML = ''; const input = document.createElement('input');"
            "input.type = 'file'; input.multiple = true; document.body.append(input)"
        )

    def upload(self, path: Path, endpoint: str, **options: Any) -> None:
        """Choose a file and upload it."""
        self._run("upload(...arguments)", [path], endpoint, options)

    def send_forms(self, paths: list[Path], endpoint: str, **options: Any) -> Any:
        """Choose files and send them in forms; returns what Uppy has told at the end."""
        self._run("void sendForms(...arguments)", paths, endpoint, options)
        until(lambda: self.seen()["ended"], "the end of an upload", 60)
        return self.seen()

    def _run(self, source: str, paths: list[Path], endpoint: str, options: dict[str, Any]) -> None:
        self._enter()
        field = self._browser.find_element(By.TAG_NAME, "input")
        field.send_keys("\n".join(map(str, paths)))
        self._browser.execute_script(source, field, endpoint, options)

    def seen(self) -> Any:
        """What Uppy has told so far."""
        self._enter()
        return self._browser.execute_script("return seen")

    def result(self) -> Any:
        """Wait for the end of the upload; returns what Uppy has told."""
        until(lambda: self.seen()["result"] or self.seen()["error"], "the end of an upload", 60)
        return self.seen()

    def online(self) -> bool:
        """Whether the page knows a network."""
        self._enter()
        return bool(self._browser.execute_script("return navigator.onLine"))

    def connect(self, online: bool) -> None:
        """Take the tab off the network, or put it back."""
        self._enter()
        self._browser.execute_cdp_cmd("Network.enable", {})
        self._browser.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": not online, **ONLINE})

    def close(self) -> None:
        """Close the tab."""
        self._enter()
        self._browser.close()
        self._browser.switch_to.window(self._browser.window_handles[0])

    def _enter(self) -> None:
        self._browser.switch_to.window(self._handle)

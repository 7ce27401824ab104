"""Stored files: finding, looking, copying, downloading, deleting and forgetting them."""

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browsers import PLAIN_HOST, Profile, Tab
from tests.support.pictures import png
from tests.support.servers import Server, gunicorn

pytestmark = pytest.mark.clients

COUNT = "(selector, count) => document.querySelectorAll(selector).length === count"


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An open service."""
    with gunicorn(tmp_path_factory.mktemp("service")) as server:
        yield server


def page(server: Server, host: str = "127.0.0.1") -> str:
    """The address of the page."""
    return f"http://{host}:{server.port}/"


def send(server: Server, data: bytes, method: str = "POST", path: str = "") -> Any:
    """Send a request; returns the JSON of its answer."""
    request = urllib.request.Request(page(server) + path, data, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def upload(tab: Tab, directory: Path, files: dict[str, bytes]) -> list[str]:
    """Upload files by the page; returns their hashes."""
    before = tab.js("() => document.querySelectorAll('#queue li[data-hash]').length")
    for name, data in files.items():
        (directory / name).write_bytes(data)
    tab.choose("input#files", *(directory / name for name in files))
    tab.until(COUNT, "#queue li[data-hash]", before + len(files))
    hashes: list[str] = tab.js(
        "() => [...document.querySelectorAll('#queue li[data-hash]')].map((li) => li.dataset.hash)"
    )
    return hashes[before:]


def test_previews(profile: Profile, server: Server, tmp_path: Path) -> None:
    """Pictures and texts are shown; of a long text the beginning; a file without an ending by its bytes."""
    tab = profile.tab(page(server))
    files = {
        "a.png": png(200, 100),
        "long.txt": "строка\n".encode() * 20_000,
        "b": png(30, 20),
        "c": b"plain words",
    }
    upload(tab, tmp_path, files)
    looks = "() => [...document.querySelectorAll('#queue [data-do=preview]')][{}].click()"
    tab.js(looks.format(0))
    tab.until("() => document.querySelector('dialog img')?.naturalWidth === 200")
    # Closed by Escape, the focus is where it was.
    tab.press("Escape")
    tab.until("() => document.querySelector('dialog') === null")
    tab.js(looks.format(1))
    tab.until("() => document.querySelector('dialog pre')?.textContent.startsWith('строка')")
    assert (
        60_000 < tab.js("() => new Blob([document.querySelector('dialog pre').textContent]).size") <= 65_536
    )
    tab.press("Escape")
    tab.js(looks.format(2))
    tab.until("() => document.querySelector('dialog img')?.naturalWidth === 30")
    tab.press("Escape")
    tab.js(looks.format(3))
    tab.until_text("plain words", "dialog pre")


@pytest.mark.parametrize("host", ["127.0.0.1", PLAIN_HOST], ids=["secure", "plain"])
def test_copy(profile: Profile, server: Server, tmp_path: Path, host: str) -> None:
    """Hash and link are copied, with and without a secure context, and a screen reader is told."""
    tab = profile.tab(page(server, host))
    (hash_,) = upload(tab, tmp_path, {"имя файла.txt": host.encode()})
    tab.click("#queue [data-do=copy-hash]")
    tab.until_text("Copied", "#spoken")
    assert tab.js("() => document.activeElement.dataset.do") == "copy-hash"
    # A field shows what is in the clipboard.
    tab.click(".stored input")
    tab.press("Control+V")
    tab.until("(text) => document.querySelector('.stored input').value === text", hash_)
    tab.click("#queue [data-do=copy-link]")
    time.sleep(0.2)
    tab.click(".stored input")
    tab.press("Control+A", "Control+V")
    name = "%D0%B8%D0%BC%D1%8F%20%D1%84%D0%B0%D0%B9%D0%BB%D0%B0.txt"
    tab.until(
        "(text) => document.querySelector('.stored input').value === text",
        f"{page(server, host)}{hash_}/{name}",
    )
    # A whole link is a search for its file.
    tab.until(COUNT, ".stored li[data-hash]", 1)


def test_delete(profile: Profile, server: Server, tmp_path: Path) -> None:
    """Deleting is asked once, removes the line everywhere, and the other tab hears of it."""
    tab, other = profile.tab(page(server)), profile.tab(page(server))
    # A page that nobody sees draws nothing.
    tab.page.call("bringToFront")
    (hash_,) = upload(tab, tmp_path, {"short-lived.txt": b"short-lived"})
    line = f"li[data-hash='{hash_}']"
    other.until("(line) => !!document.querySelector(`.remembered ${line}`)", line)
    tab.click(f"#queue {line} [data-do=delete]")
    tab.until("() => document.activeElement.dataset.do === 'keep'")
    tab.press("Escape")
    tab.until("() => document.activeElement.dataset.do === 'delete'")
    tab.click(f"#queue {line} [data-do=delete]")
    tab.click(f"#queue {line} [data-do=delete-now]")
    tab.until("(line) => document.querySelector(line) === null", line)
    tab.until_text("short-lived.txt is deleted", "#spoken")
    other.until("(line) => document.querySelector(line) === null", line)
    tab.page.call("reload")
    tab.until("() => !!document.querySelector('.stored [data-do=reload]')")
    assert tab.js("(line) => document.querySelector(line) === null", line)


def test_deleted_elsewhere(profile: Profile, server: Server, tmp_path: Path) -> None:
    """A file that somebody else deleted leaves the page, with a friendly sentence."""
    tab = profile.tab(page(server))
    for action, name in [("download", "one.txt"), ("delete", "two.txt")]:
        (hash_,) = upload(tab, tmp_path, {name: name.encode()})
        send(server, b"", "DELETE", hash_)
        line = f"#queue li[data-hash='{hash_}']"
        tab.click(f"{line} [data-do={action}]")
        if action == "delete":
            tab.click(f"{line} [data-do=delete-now]")
        tab.until_text(f"{name} is no longer in the store", "#spoken")
        tab.until("(line) => document.querySelector(line) === null", line)


def test_forget(profile: Profile, server: Server, tmp_path: Path) -> None:
    """The device forgets one upload or all of them; the files stay in the store."""
    tab = profile.tab(page(server))
    hashes = upload(tab, tmp_path, {"first.txt": b"1", "second.txt": b"2", "third.txt": b"3"})
    # Uploads of this visit are in no other list.
    assert tab.js(COUNT, ".remembered li", 0)
    tab.click("[data-do=clear]")
    tab.until(COUNT, ".remembered li[data-hash]", 3)
    tab.click(".remembered li [data-do=forget]")
    tab.until(COUNT, ".remembered li[data-hash]", 2)
    tab.click(".remembered [data-do=forget-all]")
    tab.until("() => document.activeElement.dataset.do === 'keep'")
    tab.click(".remembered [data-do=forget-now]")
    tab.until(COUNT, ".remembered li", 0)
    again = profile.tab(page(server))
    again.until("() => !!document.querySelector('.stored li')")
    assert again.js(COUNT, ".remembered li", 0)
    for hash_ in hashes:
        with urllib.request.urlopen(page(server) + hash_) as answer:
            assert len(answer.read()) == 1


def test_list(profile: Profile, tmp_path: Path) -> None:
    """The list has pages, and is searched by the beginning of a hash as it was typed or pasted."""
    with gunicorn(tmp_path) as server:
        tab = profile.tab(page(server))
        tab.until_text("Nothing is stored yet", ".stored")
        hashes = sorted(send(server, str(i).encode())["hash"] for i in range(60))
        tab.click(".stored [data-do=reload]")
        tab.until(COUNT, ".stored li[data-hash]", 25)
        seen = []
        for button, count in [("next", 25), ("next", 10), ("previous", 25)]:
            seen += tab.js("() => [...document.querySelectorAll('.stored li')].map((li) => li.dataset.hash)")
            first = tab.js("() => document.querySelector('.stored li').dataset.hash")
            tab.click(f".stored [data-do={button}]")
            tab.until("(first) => document.querySelector('.stored li').dataset.hash !== first", first)
            tab.until(COUNT, ".stored li[data-hash]", count)
        assert seen == hashes
        wanted = hashes[7]
        for text in [
            wanted[:5],
            f"  {wanted.upper()}\u00a0",
            f"{wanted}  name.txt",
            f"{page(server)}{wanted}/x?link=y",
        ]:
            tab.js(FILL, text)
            tab.until("(hash) => document.querySelector('.stored li')?.dataset.hash === hash", wanted)
            assert tab.js(COUNT, ".stored li", 1)
            tab.js(FILL, "")
            tab.until(COUNT, ".stored li[data-hash]", 25)
        tab.js(FILL, "xyz")
        tab.until_text("Enter the beginning of a hash", ".stored")
        tab.js(FILL, "0" * 64)
        tab.until_text("No file has a hash that begins like this", ".stored")


FILL = """(text) => {
    const field = document.querySelector(".stored input");
    field.value = text;
    field.dispatchEvent(new Event("input"));
}"""

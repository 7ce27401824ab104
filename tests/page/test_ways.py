"""The ways by which files come to the page."""

import hashlib
from pathlib import Path

import pytest

from tests.support.browsers import Browser, Profile, Tab
from tests.support.folders import choose_folder
from tests.support.fresh import MIB, fresh
from tests.support.servers import Server
from tests.support.visits import Visit

pytestmark = pytest.mark.clients
# Puts a picture that no store has into the clipboard.
DRAW = """async () => {
    const canvas = new OffscreenCanvas(64, 64);
    const pen = canvas.getContext("2d");
    for (let x = 0; x < 64; x++) {
        pen.fillRect(x, 64 * Math.random(), 1, 64);
    }
    const picture = await canvas.convertToBlob();
    await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
}"""


def folder(path: Path) -> dict[str, str]:
    """Make a folder with files in folders; returns their hashes by the names that the page has for them."""
    names = ("a.txt", "b/c.txt", "b/d/e.txt")
    return {f"{path.name}/{name}": fresh(path / name) for name in names}


def stored(visit: Visit, service: Server, wanted: dict[str, str]) -> None:
    """Wait until these files are stored, by what the person sees and by what the store has."""
    for name, hash_ in wanted.items():
        assert visit.until_stored(name) == hash_
    assert set(wanted.values()) <= service.blobs()


def copy(tab: Tab, source: str) -> None:
    """Copy by a function of JavaScript, in answer to a key as browsers want it."""
    listener = f"""() => addEventListener("keydown", async () => {{
        await ({source})();
        window.copied = true;
    }}, {{ once: true }})"""
    tab.js(listener)
    tab.press("a")
    tab.until("() => window.copied")


def test_choose(visit: Visit, service: Server, tmp_path: Path) -> None:
    """Chosen files are stored."""
    wanted = {name: fresh(tmp_path / name) for name in ("one.bin", "два.bin")}
    with visit.tab.choosing("#choose-files") as chosen:
        chosen(*(tmp_path / name for name in wanted))
    stored(visit, service, wanted)


def test_large(visit: Visit, service: Server, tmp_path: Path) -> None:
    """A file that is hashed while it is sent is stored, and the page has compared the hash."""
    wanted = {"large.bin": fresh(tmp_path / "large.bin", 80 * MIB)}
    visit.choose(tmp_path / "large.bin")
    stored(visit, service, wanted)
    visit.sees("line.compared")


def test_empty(visit: Visit, service: Server, tmp_path: Path) -> None:
    """An empty file is stored."""
    wanted = {"empty": fresh(tmp_path / "empty", 0)}
    visit.choose(tmp_path / "empty")
    stored(visit, service, wanted)


def test_drop(visit: Visit, service: Server, tmp_path: Path) -> None:
    """Dropped files are stored: the events are made by a script, the files are true."""
    wanted = {name: fresh(tmp_path / name) for name in ("three.bin", "four.bin")}
    visit.tab.drop(visit.tab.files(*(tmp_path / name for name in wanted)))
    stored(visit, service, wanted)


@pytest.mark.only("chromium", "WebDriver BiDi has no command that drags files")
def test_drag(visit: Visit, service: Server, tmp_path: Path) -> None:
    """Files dragged from the desktop are stored."""
    wanted = {name: fresh(tmp_path / name) for name in ("five.bin", "six.bin")}
    visit.tab.drag(*(tmp_path / name for name in wanted))
    stored(visit, service, wanted)


@pytest.mark.only("chromium", "WebDriver BiDi has no command that drags folders")
def test_drag_a_folder(visit: Visit, service: Server, tmp_path: Path) -> None:
    """A folder dragged from the desktop is stored with all that is in it."""
    wanted = folder(tmp_path / "papers")
    visit.tab.drag(tmp_path / "papers")
    stored(visit, service, wanted)


def test_choose_a_folder(browser: Browser, visit: Visit, service: Server, tmp_path: Path) -> None:
    """A chosen folder is stored with all that is in it."""
    wanted = folder(tmp_path / "photos")
    choose_folder(browser, visit.tab, "#choose-folder", tmp_path / "photos")
    stored(visit, service, wanted)


def test_paste_text(profile: Profile, visit: Visit, service: Server) -> None:
    """Pasted text is stored as a file."""
    profile.allow_clipboard(visit.tab.page.call("url"))
    copy(visit.tab, "() => navigator.clipboard.writeText('words of mine')")
    visit.tab.press("Control+v")
    visit.tab.until("() => document.querySelector('#queue-files > li[data-hash]') !== null")
    assert hashlib.sha256(b"words of mine").hexdigest() in service.blobs()


def test_paste_a_picture(profile: Profile, visit: Visit, service: Server, tmp_path: Path) -> None:
    """A pasted picture is stored as a file; in Firefox by an event that a script made."""
    # Without a screen Firefox pastes text alone.
    before = service.blobs()
    if visit.tab.kind == "chromium":
        profile.allow_clipboard(visit.tab.page.call("url"))
        copy(visit.tab, DRAW)
        visit.tab.press("Control+v")
    else:
        fresh(tmp_path / "image.png")
        visit.tab.paste(visit.tab.files(tmp_path / "image.png"))
    visit.tab.until("() => document.querySelector('#queue-files > li[data-hash]') !== null")
    assert len(service.blobs() - before) == 1

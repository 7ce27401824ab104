"""A walk of a person, from an empty page to a file that is gone."""

from contextlib import suppress
from hashlib import file_digest
from pathlib import Path

import pytest

from tests.support.bridge import Failed
from tests.support.browsers import Browser, Profile
from tests.support.fresh import fresh
from tests.support.relay import Relay
from tests.support.servers import Server, gunicorn, until
from tests.support.visits import Visit

pytestmark = pytest.mark.clients
NAME = "Film of the holidays.zip"
SIZE = 300_000_000
# Bytes a second, fast enough for a test and slow enough to be interrupted.
RATE = 100e6
# What may be on its way when the line is lost, and is sent again.
FLIGHT = 16 << 20
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 3}


def test_walk(browser: Browser, tmp_path: Path) -> None:
    """Open, drop 300 MB, lose the line, go on, copy the link, open it on a phone, delete."""
    (tmp_path / "phone").mkdir()
    # Python's checks would take longer than the upload.
    with gunicorn(tmp_path, python=()) as server, Relay(server.port, RATE) as line:
        with browser.profile() as desk, browser.profile(tmp_path / "phone") as phone:
            visit = Visit(desk.tab(f"{line.url}/"))
            hash_ = fresh(tmp_path / NAME, SIZE)
            visit.tab.drop(visit.tab.files(tmp_path / NAME))
            lose(line, visit, server)
            assert visit.until_stored(NAME) == hash_
            visit.sees("line.compared")
            assert SIZE <= line.carried < SIZE + FLIGHT
            link = copied(visit, desk, line.url)
            assert link == f"{line.url}/{hash_}/{NAME.replace(' ', '%20')}"
            opened = tmp_path / "phone" / NAME
            open_on(phone, link, opened)
            with opened.open("rb") as file:
                assert file_digest(file, "sha256").hexdigest() == hash_
            delete(visit, hash_)
            assert not server.blobs()
            assert phone.tab().go(link) == 404


def lose(line: Relay, visit: Visit, server: Server) -> None:
    """Lose the line after a third of the file, until the page says so; then it is there again."""
    until(lambda: line.carried > SIZE // 3, "a third of the file")
    # The discard port: nobody listens there.
    line.target = 9
    line.cut()
    visit.until_state(NAME, "retrying")
    visit.sees("error.network.what")
    assert not server.blobs()
    line.target = server.port


def copied(visit: Visit, profile: Profile, origin: str) -> str:
    """Copy the link by its button; returns what the clipboard has."""
    profile.allow_clipboard(origin)
    visit.act("copy-link", NAME)
    visit.tab.until_text(visit.words("copy.copied"), "#spoken")
    return str(visit.tab.js("() => navigator.clipboard.readText()"))


def open_on(phone: Profile, link: str, saved: Path) -> None:
    """Open a link in a window as small as a phone, which saves the file."""
    tab = phone.tab()
    tab.size(**PHONE)
    # A download is no page.
    with suppress(Failed):
        tab.go(link)
    until(lambda: saved.exists() and saved.stat().st_size == SIZE, "the download")


def delete(visit: Visit, hash_: str) -> None:
    """Delete the file: the page asks once, and shows it nowhere afterwards."""
    shown = "(hash) => document.querySelectorAll(`li[data-hash='${hash}']`).length"
    # The upload, and what is in the store.
    visit.tab.until(f"(hash) => ({shown})(hash) === 2", hash_)
    visit.act("delete", NAME)
    visit.sees("line.sure", name=NAME)
    visit.press("delete-now")
    visit.sees("line.deleted", name=NAME)
    assert visit.tab.js(shown, hash_) == 0
    assert not visit.tab.told("dialog")

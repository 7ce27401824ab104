"""Very large files and very many."""

import time
from pathlib import Path

import pytest

from tests.support.browsers import Browser
from tests.support.footprint import Peak, longest_pause, memory, watch_frames
from tests.support.fresh import MIB, sparse
from tests.support.servers import Server, gunicorn
from tests.support.visits import Visit

pytestmark = pytest.mark.clients
# A list of small files.
FILES = """(count) => {
    const list = new DataTransfer();
    for (let i = 0; i < count; i++) {
        list.items.add(new File([`${Math.random()} ${i}`], `${i}.txt`));
    }
    return list;
}"""
# How long one after another takes, in milliseconds.
ONE_BY_ONE = """async (count) => {
    const begun = performance.now();
    for (let i = 0; i < count; i++) {
        const answer = await fetch("", { method: "POST", body: new File([`${Math.random()} ${i}`], "file") });
        await answer.json();
    }
    return performance.now() - begun;
}"""


def test_memory(browser: Browser, tmp_path: Path) -> None:
    """A file of 2 GiB is uploaded in a tab with at most 300 MiB of memory."""
    sparse(tmp_path / "huge.bin", 2048 * MIB)
    # Python's checks would take longer than the upload.
    with gunicorn(tmp_path, python=()) as server, browser.profile() as profile:
        visit = Visit(profile.tab(f"http://127.0.0.1:{server.port}/"))
        before = memory(browser)
        with Peak(browser) as peak:
            visit.choose(tmp_path / "huge.bin")
            hash_ = visit.until_stored("huge.bin", seconds=200)
        assert server.blobs() == {hash_}
        visit.sees("line.compared")
    print(f"{browser.kind}: {before / MIB:.0f} MiB before, {peak.bytes / MIB:.0f} MiB at most")
    assert peak.bytes <= 300 * MIB


def test_thousand(visit: Visit, service: Server) -> None:
    """A thousand small files are stored, about as fast as a script sends them one after another."""
    tab = visit.tab
    before = len(service.blobs())
    # Both sides, since the speed of a machine is not that of the page.
    alone = tab.js(ONE_BY_ONE, 200) / 200
    files = tab.handle(FILES, 1000)
    begun = time.monotonic()
    tab.drop(files)
    visit.sees("queue.all_done", count="1,000", seconds=120)
    ratio = (time.monotonic() - begun) / 1000 / (alone / 1000)
    print(f"{tab.kind}: {ratio:.2f} x")
    assert len(service.blobs()) == before + 1200
    assert ratio < 3


# The page grows meanwhile, when the list below the queue has come.
SCROLL_DOWN = """() => {
    const bottom = document.body.scrollHeight;
    if (window.aim !== bottom) {
        window.aim = bottom;
        scrollTo({ top: bottom, behavior: "smooth" });
    }
    return scrollY + innerHeight > bottom - 200;
}"""


def test_ten_thousand(visit: Visit, service: Server) -> None:
    """A queue of ten thousand files keeps nobody waiting, and can be cancelled."""
    tab = visit.tab
    watch_frames(tab)
    # The page has no part in how long the browser takes to make them.
    files = tab.handle("(files) => { window.longest = 0; return files; }", tab.handle(FILES, 10000))
    tab.drop(files)
    tab.until("() => document.querySelectorAll('#queue-files > [data-hash]').length >= 20", seconds=60)
    assert tab.js("() => document.querySelectorAll('#queue-files > li').length") == 200
    tab.until(SCROLL_DOWN)
    for action, state in (("pause-all", "paused"), ("go-on-all", "waiting")):
        visit.press(action)
        source = "(state) => document.querySelector(`#queue-files > [data-state=${state}]`) !== null"
        tab.until(source, state, seconds=5)
    visit.press("cancel-all")
    visit.press("cancel-all-now")
    tab.until("() => !document.querySelector('#queue-files > :not([data-hash])')", seconds=5)
    longest = longest_pause(tab)
    print(f"{tab.kind}: {longest:.0f} ms")
    # A crowded machine takes a third of it, a page that draws every file many seconds.
    assert longest < 1000
    count = len(service.blobs())
    visit.give("last.txt", "the last one")
    visit.until_stored("last.txt")
    assert len(service.blobs()) <= count + 4

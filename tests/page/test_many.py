"""Very large files and very many."""

from pathlib import Path

import pytest

from tests.support.browsers import Browser
from tests.support.footprint import Peak, longest_pause, memory, watch_frames
from tests.support.fresh import MIB, sparse
from tests.support.servers import Server, gunicorn
from tests.support.visits import Visit

pytestmark = pytest.mark.clients


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


def test_thousand(visit: Visit, service: Server, tmp_path: Path) -> None:
    """A thousand small files are stored."""
    before = len(service.blobs())
    names = [f"{number}.txt" for number in range(1000)]
    for name in names:
        (tmp_path / name).write_text(f"{tmp_path} {name}")
    visit.choose(*(tmp_path / name for name in names))
    visit.sees("queue.all_done", count="1,000", seconds=120)
    assert len(service.blobs()) == before + 1000


def test_ten_thousand(visit: Visit) -> None:
    """A queue of ten thousand files keeps nobody waiting, and can be cancelled."""
    tab = visit.tab
    watch_frames(tab)
    files = tab.handle("""() => Array.from({ length: 10000 },
        (_, number) => new File([`${Math.random()} ${number}`], `${number}.txt`))""")
    tab.js("() => { window.longest = 0; }")
    tab.drop(files)
    tab.until("() => document.querySelectorAll('#queue-files > li').length >= 100", seconds=60)
    tab.until("() => document.querySelectorAll('#queue-files > [data-hash]').length >= 20", seconds=60)
    print(f"{tab.kind}: {longest_pause(tab):.0f} ms")
    assert tab.js("() => document.querySelectorAll('#queue-files > li').length") <= 200
    assert longest_pause(tab) < 500

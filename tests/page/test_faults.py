"""Full disks, hostile names and hostile files."""

from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.bridge import Failed
from tests.support.browsers import Profile
from tests.support.faults import disk, full
from tests.support.fresh import MIB, fresh
from tests.support.servers import Server, gunicorn
from tests.support.visits import Visit

pytestmark = pytest.mark.clients
# What a script does that must not run.
HURT = "globalThis.hurt = true; alert('hurt')"
NAMES = [
    f'<img src=x onerror="{HURT}">.txt',
    f'"><script>{HURT}</script>.txt',
    f"javascript:{HURT}",
    f"data:text/html,<script>{HURT}</script>",
    "{name} {count} $& $1 {{service}}.txt",
    "__proto__",
    "constructor",
    "..",
    "../../etc/passwd",
    "a\\b\\c.txt",
    "line\nbreak\rand\ttab.txt",
    "right\u202eto\u2066left.txt",
    "lone\ud800.txt",
    "100%25 %00 #fragment ?query &and;.txt",
    "🧨" * 60 + ".txt",
    "long" * 100 + ".txt",
    " ",
    ".",
    "con.txt",
    "e\u0301" * 100,
]
DISPOSITION = "(url) => fetch(url).then(({ headers }) => headers.get('Content-Disposition'))"
FILES = {
    "page.html": ("text/html", f"<!doctype html><script>{HURT}</script><b>bold</b>"),
    "drawing.svg": (
        "image/svg+xml",
        f'<svg xmlns="http://www.w3.org/2000/svg" onload="{HURT}"><script>{HURT}</script></svg>',
    ),
    "picture.png": ("image/png", f"<script>{HURT}</script>"),
    "notes.txt": ("text/plain", f"</pre><script>{HURT}</script>"),
    "script.js": ("text/javascript", HURT),
    "data.json": ("application/json", f'{{"</script><script>{HURT}": 1}}'),
    "film.mp4": ("video/mp4", f"<script>{HURT}</script>"),
    "paper.pdf": ("application/pdf", f"%PDF-1.7\n<script>{HURT}</script>"),
}


def test_full_disk(profile: Profile, tmp_path: Path) -> None:
    """A full disk is told in a sentence; after room is made, the upload is tried again and ends."""
    hash_ = fresh(tmp_path / "film.bin", 16 * MIB)
    with disk("tmpfs", tmp_path / "store", 64 * MIB), gunicorn(tmp_path) as server:
        server.expected.append("No space left on device|not enough free space")
        visit = Visit(profile.tab(f"http://127.0.0.1:{server.port}/"))
        with full(server.root, leave=4 * MIB):
            visit.choose(tmp_path / "film.bin")
            visit.until_state("film.bin", "failed")
            visit.sees("error.storage_full.what")
            visit.sees("error.storage_full.next")
        visit.act("retry", "film.bin")
        assert visit.until_stored("film.bin") == hash_
        assert server.blobs() == {hash_}


def unharmed(visit: Visit) -> None:
    """Check that no script of a file or a name has run."""
    assert visit.tab.js("() => !('hurt' in globalThis)")


def test_hostile_names(visit: Visit, service: Server) -> None:
    """Names are only shown: nothing in one runs, and each file is stored under a link that works."""
    visit.tab.js("(names) => { window.names = names; }", [[ord(one) for one in name] for name in NAMES])
    source = """() => names.map((name, number) =>
        new File([`${Math.random()} ${number}`], String.fromCodePoint(...name)))"""
    visit.tab.drop(visit.tab.handle(source))
    count = len(NAMES)
    visit.sees("queue.all_done", count=count)
    links = visit.tab.js(
        "() => [...document.querySelectorAll('#queue-files .file-name a')].map((it) => it.href)"
    )
    assert len(links) == count
    assert all(link.startswith(f"http://127.0.0.1:{service.port}/") for link in links), links
    source = "(links) => Promise.all(links.map((it) => fetch(it).then((answer) => answer.status)))"
    assert visit.tab.js(source, links) == [200] * count
    unharmed(visit)


def test_hostile_files(visit: Visit, profile: Profile, service: Server) -> None:
    """Files are only shown: nothing in one runs, neither in the preview nor behind its link."""
    tab = visit.tab
    for name, (kind, content) in FILES.items():
        visit.give(name, content, kind)
        hash_ = visit.until_stored(name)
        if visit.offers("preview", name):
            visit.act("preview", name)
            tab.until("() => document.querySelector('dialog[open]') !== null")
            tab.press("Escape")
            tab.until("() => !document.querySelector('dialog[open]')")
        unharmed(visit)
        url = f"http://127.0.0.1:{service.port}/{hash_}/{name}"
        if "attachment" in (tab.js(DISPOSITION, url) or ""):
            # A download is no page.
            continue
        opened = profile.tab()
        # Browsers draw with styles of their own what they show by themselves, and the sandbox forbids some.
        opened.expected.append("Content.Security.Policy|forbidden by|sandbox|XML|decod")
        with suppress(Failed):
            opened.go(url)
        assert not opened.told("dialog")
        opened.close()

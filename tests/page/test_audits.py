"""Audits of the page by axe-core, and for people who enlarge, touch, use keys or choose their own colours."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.access import ALL, KEY, line
from tests.support.audits import Audit
from tests.support.browsers import Profile
from tests.support.fresh import MIB, fresh
from tests.support.pictures import png
from tests.support.relay import Relay
from tests.support.servers import Server, gunicorn
from tests.support.visits import Visit
from wsgi_store.access.signing import Signer

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]
# The page is in English again after each look.
BOTH = ("ru", "en")
IN_CHROMIUM = pytest.mark.only("chromium", "WebDriver BiDi sets neither colour schemes nor forced colours")
SIGNER = Signer([KEY])


def verdict(*audits: Audit) -> None:
    """Fail with all that was found; print what axe-core could not decide."""
    found = [fault for audit in audits for fault in audit.faults]
    doubts = [doubt for audit in audits for doubt in audit.doubts]
    print(f"{sum(audit.runs for audit in audits)} runs of axe-core")
    assert not found + doubts, "\n".join([*found, "in doubt:", *doubts])


@pytest.fixture(name="guarded", scope="module")
def fixture_guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that asks for tokens."""
    directory = tmp_path_factory.mktemp("guarded")
    (directory / "tokens").write_text(line("everything", ALL), encoding="utf-8")
    settings = {"WSGI_STORE_TOKENS": str(directory / "tokens"), "WSGI_STORE_SIGNING_KEYS": KEY}
    with gunicorn(directory, **settings) as server:
        yield server


@IN_CHROMIUM
def test_uploads(profile: Profile, tmp_path: Path) -> None:
    """Nothing is found while the page is empty, files are uploaded, wait, fail, are stored and deleted."""
    (tmp_path / "notes.txt").write_text("Words.\n" * 300)
    (tmp_path / "picture.png").write_bytes(png(400, 300))
    names = ["a", "b", "c", "d", "A long name of a film about the holidays, first cut"]
    films = [tmp_path / f"{name}.mp4" for name in names]
    for film in films:
        fresh(film, 4 * MIB)
    with gunicorn(tmp_path, WSGI_STORE_MAX_SIZE="5MB") as server, Relay(server.port, 20_000) as slow:
        visit = Visit(profile.tab(f"{slow.url}/"))
        audit = Audit(visit.tab)
        # From here on the browser has both languages, which would wait behind the uploads.
        audit.look("empty", *BOTH)
        audit.walk("empty")
        visit.choose(tmp_path / "notes.txt", tmp_path / "picture.png")
        visit.until_stored("notes.txt")
        visit.until_stored("picture.png")
        # Chromium tells of each request that finds no line.
        visit.tab.expected += ["^dialog: beforeunload", "ERR_EMPTY_RESPONSE"]
        try:
            under_way(visit, slow, films, audit)
        finally:
            verdict(audit)


def under_way(visit: Visit, slow: Relay, films: list[Path], audit: Audit) -> None:
    """Look at uploads in all of their states."""
    held, large = films[0].parent / "held.txt", films[0].parent / "large.mp4"
    held.write_bytes((films[0].parent / "notes.txt").read_bytes())
    fresh(large, 6 * MIB)
    visit.choose(held, large, *films)
    visit.until_stored(held.name)
    visit.until_state(large.name, "failed")
    visit.until_state(films[0].name, "sending")
    visit.act("pause", films[0].name)
    visit.until_state(films[0].name, "paused")
    for film in films[1:4]:
        visit.until_state(film.name, "sending")
    visit.until_state(films[4].name, "waiting")
    audit.look("held, failed, paused, sending, waiting", *BOTH)
    slow.target = 9
    slow.cut()
    visit.until_state(films[1].name, "retrying")
    # Without a line another language cannot be loaded.
    audit.look("retrying", "en")
    for film in films:
        visit.act("cancel", film.name)
    visit.tab.until("() => document.querySelectorAll('#queue-files > li').length <= 4")


@IN_CHROMIUM
def test_lines(visit: Visit, tmp_path: Path) -> None:
    """Nothing is found in lines of files, in their previews, in the question before deleting, in the list."""
    (tmp_path / "notes.txt").write_text("Words of a letter.\n" * 300)
    (tmp_path / "picture.png").write_bytes(png(400, 300) + bytes(str(tmp_path), "utf-8"))
    audit = Audit(visit.tab)
    visit.choose(tmp_path / "notes.txt", tmp_path / "picture.png")
    visit.until_stored("notes.txt")
    visit.until_stored("picture.png")
    visit.tab.until("() => document.querySelectorAll('.stored li').length >= 2")
    audit.look("done", *BOTH)
    audit.walk("done")
    for name in ("notes.txt", "picture.png"):
        visit.act("preview", name)
        visit.tab.until("() => document.querySelector('dialog :is(pre, img)') !== null")
        audit.look(f"preview of {name}", *BOTH)
        visit.tab.press("Escape")
    visit.act("delete", "notes.txt")
    visit.sees("line.sure", name="notes.txt")
    audit.look("question", *BOTH)
    visit.press("delete-now")
    visit.sees("line.deleted", name="notes.txt")
    audit.look("deleted", *BOTH)
    for text, key in [("0" * 64, "stored.nothing_found"), ("xyz", "stored.no_hash")]:
        visit.tab.click(".stored input")
        visit.tab.press("Control+A")
        visit.tab.type(text)
        visit.sees(key)
        audit.look(f"search for {text[:3]}", *BOTH)
        visit.tab.js(BACK)
    verdict(audit)


BACK = "() => document.querySelector(`.top a[hreflang='en']`).click()"


@IN_CHROMIUM
def test_access(profile: Profile, guarded: Server) -> None:
    """Nothing is found where tokens, links and tickets are asked for, made and used."""
    url = f"http://127.0.0.1:{guarded.port}/"
    visit = Visit(profile.tab(url))
    audit = Audit(visit.tab)
    audit.look("needs a token", *BOTH)
    visit.press("token")
    audit.look("token asked", *BOTH)
    audit.walk("token asked")
    visit.tab.click("#token")
    visit.tab.type("wrong")
    visit.tab.js(BACK)
    visit.tab.press("Enter")
    visit.sees("access.wrong")
    audit.look("token wrong", *BOTH)
    visit.tab.js("() => document.querySelector('#token').select()")
    visit.tab.type("everything")
    visit.tab.press("Enter")
    visit.tab.until("() => document.querySelector('dialog') === null")
    visit.tab.until("() => !document.querySelector('.stored').hidden")
    audit.look("list, nothing in it", *BOTH)
    visit.press("ticket")
    audit.look("ticket asked", *BOTH)
    visit.tab.click("dialog .primary")
    ticket = visit.tab.until("() => document.querySelector('dialog .address')?.value")
    audit.look("ticket made", *BOTH)
    visit.tab.press("Escape")
    guest = Visit(profile.tab(ticket))
    guest.sees("ticket.title")
    invited = Audit(guest.tab)
    invited.look("invited", *BOTH)
    guest.tab.js(BACK)
    guest.give("gift.txt", f"a gift of {time.time()}")
    guest.sees("ticket.arrived")
    invited.look("arrived", *BOTH)
    guest.tab.js(BACK)
    for dead, address in {
        "used": ticket,
        "expired": f"{url}?ticket={SIGNER.ticket(time.time() - 10)}",
    }.items():
        assert guest.tab.go(address) == 403
        guest.sees(f"refused.{dead}.what")
        invited.look(dead)
    visit.tab.js(BACK)
    # Nobody can click in a tab that lies behind another one.
    visit.tab.page.call("bringToFront")
    visit.tab.page.call("reload")
    visit.tab.until("() => document.querySelector('.stored [data-do=share]') !== null")
    visit.tab.js("() => document.querySelector('.stored [data-do=share]').click()")
    audit.look("link asked", *BOTH)
    visit.tab.click("dialog .primary")
    visit.tab.until("() => document.querySelector('dialog .address')?.value")
    audit.look("link made", *BOTH)
    verdict(audit, invited)


@IN_CHROMIUM
def test_read_only(profile: Profile, tmp_path: Path) -> None:
    """Nothing is found on the page of a store that takes nothing, and on those of problems."""
    (tmp_path / "store").mkdir()
    with gunicorn(tmp_path) as server:
        pass
    with gunicorn(tmp_path, WSGI_STORE_READ_ONLY="yes") as server:
        url = f"http://127.0.0.1:{server.port}/"
        visit = Visit(profile.tab(url))
        audit = Audit(visit.tab)
        visit.sees("add.read_only")
        audit.look("read-only", *BOTH)
        for language in BOTH:
            visit.tab.page.call("setExtraHTTPHeaders", {"Accept-Language": language})
            for path in ("0" * 64, "nowhere"):
                assert visit.tab.go(f"{url}{path}") == 404
                audit.look(f"{path[:7]} in {language}")
        verdict(audit)


@IN_CHROMIUM
@pytest.mark.parametrize("language", BOTH)
def test_plain(profile: Profile, service: Server, tmp_path: Path, language: str) -> None:
    """Nothing is found on the page without scripts, and in its answer."""
    fresh(tmp_path / "letter.txt")
    tab = profile.tab(
        setJavaScriptEnabled=False,
        setExtraHTTPHeaders={"Accept-Language": language},  # fmt: skip
    )
    tab.go(f"http://127.0.0.1:{service.port}/")
    audit = Audit(tab)
    # axe-core needs timers. The page stays as it was without scripts when they may run again.
    tab.page.call("setJavaScriptEnabled", True)
    audit.look(f"form in {language}")
    tab.page.call("setJavaScriptEnabled", False)
    tab.choose("form input[type=file]", tmp_path / "letter.txt")
    tab.js("() => document.querySelector('form button').focus()")
    tab.press("Enter")
    tab.until_text("letter.txt|[0-9a-f]{64}")
    tab.page.call("setJavaScriptEnabled", True)
    audit.look(f"answer in {language}")
    verdict(audit)

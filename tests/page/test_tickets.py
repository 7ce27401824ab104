"""Tokens, tickets and stores that take nothing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.access import ALL, KEY, line
from tests.support.browsers import Profile, Tab
from tests.support.fresh import fresh
from tests.support.servers import Server, gunicorn
from tests.support.visits import Visit
from wsgi_store.access.signing import Signer

pytestmark = pytest.mark.clients


@pytest.fixture(name="guarded", scope="module")
def fixture_guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that asks for tokens."""
    directory = tmp_path_factory.mktemp("guarded")
    lines = line("everything", f"{ALL},link") + line("only-reads", "read,list", "reader")
    (directory / "tokens").write_text(lines, encoding="utf-8")
    settings = {"WSGI_STORE_TOKENS": str(directory / "tokens"), "WSGI_STORE_SIGNING_KEYS": KEY}
    with gunicorn(directory, **settings) as server:
        yield server


@pytest.fixture(name="url")
def fixture_url(guarded: Server) -> str:
    """The URL of that service."""
    return f"http://127.0.0.1:{guarded.port}/"


def enter(visit: Visit, token: str, *, keep: bool = False) -> None:
    """Enter a token into the dialog that asks for one."""
    visit.tab.until("() => document.activeElement.id === 'token'")
    visit.tab.js("() => document.activeElement.select()")
    visit.tab.type(token)
    if keep:
        visit.tab.click("dialog input[type=checkbox]")
    visit.tab.press("Enter")


def test_token_needed(profile: Profile, url: str, guarded: Server, tmp_path: Path) -> None:
    """A token is asked for; a wrong one and one that may not write are refused, a right one is used."""
    names = ("one.bin", "two.bin", "three.bin")
    wanted = {name: fresh(tmp_path / name) for name in names}
    visit = Visit(profile.tab(url))
    visit.choose(*(tmp_path / name for name in names))
    enter(visit, "wrong")
    visit.sees("access.wrong")
    enter(visit, "only-reads")
    visit.sees("access.lacks")
    enter(visit, "everything")
    for name, hash_ in wanted.items():
        assert visit.until_stored(name) == hash_
    assert set(wanted.values()) <= guarded.blobs()
    # Not one dialog for each file.
    assert not visit.tab.js("() => document.querySelector('dialog[open]') !== null")


def asked(tab: Tab) -> bool:
    """Whether the page asks for a token."""
    return bool(tab.js("() => document.querySelector('dialog[open] #token') !== null"))


def test_token_for_the_tab(profile: Profile, url: str, tmp_path: Path) -> None:
    """A token lasts as long as its tab: a reload keeps it, another tab does not have it."""
    for name in ("one.bin", "two.bin", "three.bin"):
        fresh(tmp_path / name)
    visit = Visit(profile.tab(url))
    visit.choose(tmp_path / "one.bin")
    enter(visit, "everything")
    visit.until_stored("one.bin")
    visit.tab.go(url)
    visit.choose(tmp_path / "two.bin")
    visit.until_stored("two.bin")
    other = Visit(profile.tab(url))
    other.choose(tmp_path / "three.bin")
    other.tab.until("() => document.querySelector('dialog[open] #token') !== null")


def test_token_for_the_device(profile: Profile, url: str, tmp_path: Path) -> None:
    """A token that is kept on the device is there in another tab, until it is forgotten."""
    for name in ("one.bin", "two.bin", "three.bin"):
        fresh(tmp_path / name)
    visit = Visit(profile.tab(url))
    visit.choose(tmp_path / "one.bin")
    enter(visit, "everything", keep=True)
    visit.until_stored("one.bin")
    visit.tab.close()
    other = Visit(profile.tab(url))
    other.choose(tmp_path / "two.bin")
    other.until_stored("two.bin")
    other.press("token")
    other.press("forget-token")
    other.tab.until("() => document.querySelector('dialog[open]') === null")
    third = Visit(profile.tab(url))
    third.choose(tmp_path / "three.bin")
    third.tab.until("() => document.querySelector('dialog[open] #token') !== null")


def test_copied_link(profile: Profile, url: str, tmp_path: Path) -> None:
    """A copied link is signed where reading takes a token: it opens for somebody without one."""
    hash_ = fresh(tmp_path / "letter.txt")
    profile.allow_clipboard(url)
    visit = Visit(profile.tab(url))
    visit.choose(tmp_path / "letter.txt")
    enter(visit, "everything")
    visit.until_stored("letter.txt")
    visit.act("copy-link", "letter.txt")
    link = visit.tab.until("() => navigator.clipboard.readText()")
    assert link.startswith(f"{url}{hash_}/letter.txt?link=")
    assert visit.tab.js("(link) => fetch(link, { credentials: 'omit' }).then((it) => it.status)", link) == 200


@contextmanager
def invited(profile: Profile, url: str, ticket: str) -> Iterator[Visit]:
    """Somebody who opens the page by a ticket; it shows nothing but what takes their file."""
    visit = Visit(profile.tab(f"{url}?ticket={ticket}"))
    yield visit
    assert not visit.tab.js(
        "() => [...document.querySelectorAll('#stored, #access')].some((it) => it.innerText)"
    )


def test_ticket(profile: Profile, url: str, guarded: Server, tmp_path: Path) -> None:
    """A ticket takes one file, and then says that it was used."""
    ticket = Signer([KEY]).ticket(time.time() + 600)
    hash_ = fresh(tmp_path / "answer.bin")
    with invited(profile, url, ticket) as visit:
        visit.choose(tmp_path / "answer.bin")
        visit.sees("ticket.arrived")
    assert hash_ in guarded.blobs()
    with invited(profile, url, ticket) as visit:
        visit.sees("refused.used.what")


def test_ticket_expired(profile: Profile, url: str) -> None:
    """A ticket that has expired says so."""
    ticket = Signer([KEY]).ticket(time.time() - 10)
    with invited(profile, url, ticket) as visit:
        visit.sees("refused.expired.what")


def test_ticket_too_large(profile: Profile, url: str, guarded: Server, tmp_path: Path) -> None:
    """A file larger than a ticket allows is refused before it is sent, and a smaller one is taken."""
    ticket = Signer([KEY]).ticket(time.time() + 600, max_size=100_000)
    with invited(profile, url, ticket) as visit:
        fresh(tmp_path / "large.bin", 200_000)
        visit.choose(tmp_path / "large.bin")
        visit.sees("error.too_large.limit", limit="97.7 KiB")
        hash_ = fresh(tmp_path / "small.bin", 90_000)
        visit.choose(tmp_path / "small.bin")
        visit.sees("ticket.arrived")
    assert hash_ in guarded.blobs()


def test_ticket_forged(profile: Profile, url: str) -> None:
    """A ticket that is none says so."""
    with invited(profile, url, "forged") as visit:
        visit.sees("refused.signature.what")


def test_read_only(profile: Profile, tmp_path: Path) -> None:
    """A store that is read-only takes nothing, and says so."""
    (tmp_path / "store").mkdir()
    with gunicorn(tmp_path) as server:
        pass
    with gunicorn(tmp_path, WSGI_STORE_READ_ONLY="yes") as server:
        visit = Visit(profile.tab(f"http://127.0.0.1:{server.port}/"))
        visit.sees("add.read_only")
        visit.give("new.txt", "words")
        assert visit.state("new.txt") is None
        assert not visit.tab.js("() => document.querySelector('#add')?.checkVisibility()")
        assert not server.blobs()

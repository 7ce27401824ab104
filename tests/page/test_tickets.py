"""Tickets: a link by which somebody else sends one file."""

import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.access import KEY
from tests.support.browsers import Profile
from tests.support.fresh import fresh
from tests.support.servers import Server
from tests.support.visits import Visit
from wsgi_store.access.signing import Signer

pytestmark = pytest.mark.clients
SIGNER = Signer([KEY])
COUNT = "(selector, count) => document.querySelectorAll(selector).length === count"
FIELD = "input[type=file]"
# What a page of a guest must not have.
MORE = ":is(.stored, .remembered, [data-do=token], [data-do=ticket], [data-do=delete], [data-do=download])"


def page(server: Server, ticket: str = "") -> str:
    """The address of the page."""
    return f"http://127.0.0.1:{server.port}/" + (ticket and f"?ticket={ticket}")


def test_made(profile: Profile, guarded: Server, tmp_path: Path) -> None:
    """A ticket that somebody makes takes one file up to its size, once, and its page shows nothing more."""
    host = Visit(profile.tab(page(guarded)))
    host.press("token")
    host.enter("all-token")
    host.press("ticket")
    host.tab.until("() => document.activeElement.type === 'number'")
    host.tab.type("1")
    host.tab.press("Enter")
    url = host.tab.until("() => document.querySelector('dialog .address')?.value")
    for name, size in [("big.bin", 1_000_001), ("one.bin", 3000)]:
        fresh(tmp_path / name, size)
    guest = Visit(profile.tab(url))
    guest.sees("ticket.why")
    guest.sees("add.limit", size="1 MB")
    guest.choose(tmp_path / "big.bin")
    guest.sees("error.too_large.limit", limit="1 MB")
    several = "() => ['a', 'b'].map((name) => new File([name], name))"
    guest.tab.drop(guest.tab.handle(several))
    guest.sees("ticket.one")
    guest.tab.js("() => document.querySelector('#choose-files').focus()")
    guest.choose(tmp_path / "one.bin")
    guest.sees("ticket.arrived")
    assert guest.until_stored("one.bin") in guarded.blobs()
    assert guest.tab.js("() => !document.querySelector('#add').checkVisibility()")
    assert guest.tab.js("() => document.activeElement.className") == "ticket-told"
    assert guest.tab.js(COUNT, MORE, 0)
    again = Visit(profile.tab(url))
    again.sees("refused.used.what")
    assert again.tab.js(COUNT, FIELD, 0)


def test_nothing_remembered(profile: Profile, guarded: Server, tmp_path: Path) -> None:
    """What a guest sent is not remembered for those who use the device later."""
    fresh(tmp_path / "private.bin", 3000)
    guest = Visit(profile.tab(page(guarded, SIGNER.ticket(time.time() + 600))))
    guest.choose(tmp_path / "private.bin")
    guest.sees("ticket.arrived")
    later = Visit(profile.tab(page(guarded)))
    later.press("token")
    later.enter("writing-token")
    fresh(tmp_path / "own.bin", 3000)
    later.choose(tmp_path / "own.bin")
    later.until_stored("own.bin")
    again = profile.tab(page(guarded))
    again.until(COUNT, ".remembered li[data-hash]", 1)
    again.until_text("own.bin", ".remembered")
    assert "private.bin" not in again.js("() => JSON.stringify({ ...localStorage })")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: SIGNER.ticket(time.time() - 1), "expired"),
        (lambda: "nonsense", "signature"),
        (lambda: SIGNER.link("0" * 64, time.time() + 60), "signature"),
    ],
    ids=["expired", "nonsense", "link"],
)
def test_dead(profile: Profile, guarded: Server, make: Callable[[], str], reason: str) -> None:
    """The page of a ticket that is not valid says why, and takes nothing."""
    visit = Visit(profile.tab(page(guarded, make())))
    visit.sees(f"refused.{reason}.what")
    assert visit.tab.js(COUNT, f":is({FIELD}, {MORE})", 0)


def test_for_one_hash(profile: Profile, guarded: Server, tmp_path: Path) -> None:
    """A ticket for one hash takes no other file."""
    wanted = sha256(profile.browser.kind.encode()).hexdigest()
    visit = Visit(profile.tab(page(guarded, SIGNER.ticket(time.time() + 60, hash_=wanted))))
    (tmp_path / "other").write_text("other")
    (tmp_path / "wanted").write_text(profile.browser.kind)
    visit.choose(tmp_path / "other")
    visit.sees("refused.hash.what")
    visit.choose(tmp_path / "wanted")
    visit.sees("ticket.arrived")
    assert wanted in guarded.blobs()

"""Tokens, and what the page does with the rights of one."""

import json
import urllib.request
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.browsers import Profile, Tab
from tests.support.fresh import fresh
from tests.support.pictures import png
from tests.support.relay import Break, Relay, Way
from tests.support.servers import Server
from tests.support.visits import Visit

pytestmark = pytest.mark.clients
COUNT = "(selector, count) => document.querySelectorAll(selector).length === count"
KEPT = "() => JSON.stringify([{ ...sessionStorage }, { ...localStorage }])"


def page(server: Server) -> str:
    """The address of the page."""
    return f"http://127.0.0.1:{server.port}/"


def send(server: Server, data: bytes) -> str:
    """Store a file; returns its hash."""
    request = urllib.request.Request(page(server), data, {"Authorization": "Bearer all-token"})
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["hash"])


def until_listed(tab: Tab, hash_: str) -> str:
    """Wait until the list of the store has a file; returns the selector of its line."""
    line = f".stored li[data-hash='{hash_}']"
    tab.until("(line) => document.querySelector(line) !== null", line)
    return line


def is_open(tab: Tab) -> bool:
    """Whether a dialog is open."""
    return bool(tab.js("() => document.querySelector('dialog') !== null"))


def test_asked_when_needed(profile: Profile, guarded: Server, tmp_path: Path) -> None:
    """An upload without a token asks for one, once: wrong ones and one that may not write are refused."""
    names = ("one.bin", "two.bin", "three.bin")
    wanted = {name: fresh(tmp_path / name) for name in names}
    visit = Visit(profile.tab(page(guarded)))
    visit.sees("add.needs_token")
    visit.choose(*(tmp_path / name for name in names))
    for wrong in ("nonsense", "имя", "a b"):
        visit.enter(wrong)
        visit.sees("access.wrong")
        visit.tab.js("() => (document.querySelector('#token-problem').textContent = '')")
    visit.enter("reading-token")
    visit.sees("access.lacks")
    visit.enter("writing-token")
    for name, hash_ in wanted.items():
        assert visit.until_stored(name) == hash_
    assert set(wanted.values()) <= guarded.blobs()
    assert not is_open(visit.tab)
    # It may neither read nor delete nor list.
    no = "#queue :is([data-do=download], [data-do=delete], [data-do=preview]), .stored:not([hidden])"
    assert visit.tab.js(COUNT, no, 0)


def test_token_of_the_tab(profile: Profile, guarded: Server) -> None:
    """A token lasts as long as its tab, is in no URL and in no log, and is forgotten on demand."""
    hash_ = send(guarded, b"for the list")
    visit = Visit(tab := profile.tab(page(guarded)))
    assert tab.js(COUNT, ".stored li", 0)
    visit.press("token")
    visit.enter("all-token")
    until_listed(tab, hash_)
    assert not is_open(tab)
    tab.page.call("reload")
    until_listed(tab, hash_)
    other = profile.tab(page(guarded))
    other.until("() => !!document.querySelector('[data-do=token]')")
    assert other.js(COUNT, ".stored li", 0)
    tab.page.call("bringToFront")
    visit.press("token")
    visit.press("forget-token")
    tab.until(COUNT, ".stored li", 0)
    assert "all-token" not in tab.js(KEPT)
    urls = [value["url"] for value in tab.told("request")]
    assert urls and not any("all-token" in url for url in urls)
    assert "all-token" not in guarded.log.read_text()


def test_token_of_the_device(profile: Profile, guarded: Server) -> None:
    """A token that is kept on the device works in all of its tabs, and is forgotten in all of them."""
    hash_ = send(guarded, b"for the list")
    tab, visit = profile.tab(page(guarded)), Visit(profile.tab(page(guarded)))
    visit.press("token")
    visit.enter("all-token", keep=True)
    third = profile.tab(page(guarded))
    for one in (tab, visit.tab, third):
        until_listed(one, hash_)
    visit.tab.page.call("bringToFront")
    visit.press("token")
    visit.press("forget-token")
    for one in (tab, visit.tab, third):
        one.until(COUNT, ".stored li", 0)
        assert "all-token" not in one.js(KEPT)


def test_revoked_token(profile: Profile, guarded: Server) -> None:
    """A kept token that was revoked is forgotten, and the page says so."""
    visit = Visit(profile.tab(page(guarded)))
    visit.tab.js("() => localStorage.setItem('wsgi_store / token', 'revoked-token')")
    visit.tab.page.call("reload")
    visit.sees("access.kept_refused")
    assert "revoked-token" not in visit.tab.js(KEPT)


def test_closed_while_asking(profile: Profile, guarded: Server) -> None:
    """Whoever closes the dialog while the token is checked has none, and forgetting needs no connection."""
    hash_ = send(guarded, b"for the list")
    with Relay(guarded.port) as relay:
        visit = Visit(profile.tab(f"{relay.url}/"))
        visit.press("token")
        relay.break_after(Break.STALL, Way.DOWN, 0)
        visit.enter("all-token")
        visit.tab.until("() => document.querySelector('dialog .primary').disabled")
        visit.tab.press("Escape")
        visit.tab.until("() => document.querySelector('dialog') === null")
        relay.mend()
        visit.press("token")
        assert visit.tab.js("() => !document.querySelector('[data-do=forget-token]').checkVisibility()")
        assert "all-token" not in visit.tab.js(KEPT)
        visit.enter("all-token")
        until_listed(visit.tab, hash_)
        relay.break_after(Break.CUT, Way.DOWN, 0)
        visit.press("token")
        visit.press("forget-token")
        visit.tab.until(COUNT, ".stored li", 0)
        visit.tab.expected.append("ERR_|network")


@pytest.mark.parametrize("token", ["all-token", "plain-token"])
def test_reading_with_a_token(profile: Profile, guarded: Server, token: str) -> None:
    """Looking and downloading work with a token; a copied link is signed if the token allows that."""
    data = png(40, 30) + profile.browser.kind.encode() + token.encode()
    hash_ = send(guarded, data)
    profile.allow_clipboard(page(guarded))
    visit = Visit(tab := profile.tab(page(guarded)))
    visit.press("token")
    visit.enter(token)
    line = until_listed(tab, hash_)
    tab.js(REVOKED)
    tab.js("(line) => document.querySelector(line).querySelector('[data-do=preview]').click()", line)
    tab.until("() => document.querySelector('dialog img')?.naturalWidth === 40")
    source = tab.js("() => document.querySelector('dialog img').src")
    assert source.startswith("blob:") == (token == "plain-token")
    tab.click("dialog [data-do=close]")
    # The page holds no memory for what nobody looks at any more.
    if token == "plain-token":
        tab.until("(source) => revoked.includes(source)", source)
    tab.js(SAVED)
    tab.click(f"{line} [data-do=download]")
    tab.until("() => window.saved")
    assert sha256(bytes(tab.js(READ))).hexdigest() == hash_
    tab.click(f"{line} [data-do=copy-link]")
    if token == "all-token":
        tab.until_text("This link works until", line)
        # A field shows what is in the clipboard.
        tab.click(".stored input")
        tab.press("Control+V")
        wanted = f"{page(guarded)}{hash_}?link="
        link = tab.until(
            "(start) => { const { value } = document.querySelector('.stored input');"
            " return value.startsWith(start) && value; }",
            wanted,
        )
        with urllib.request.urlopen(link) as answer:
            assert answer.read() == data
        tab.click(f"{line} [data-do=share]")
        tab.click("dialog .primary")
        url = tab.until("() => document.querySelector('dialog .address')?.value")
        assert url.startswith(wanted)
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == data
    else:
        tab.until_text("needs a token", line)
        assert tab.js(COUNT, "[data-do=ticket]:not([hidden])", 0)


REVOKED = """() => {
    window.revoked = [];
    const revoke = URL.revokeObjectURL;
    URL.revokeObjectURL = (url) => revoke.call(URL, url, revoked.push(url));
}"""
# Notes what the page would save; its policy lets no script read a `blob:` address.
SAVED = """() => {
    const make = URL.createObjectURL;
    URL.createObjectURL = (blob) => make.call(URL, (window.whole = blob));
    addEventListener("click", (event) => {
        if (event.target.download) {
            event.preventDefault();
            window.saved = event.target.href;
        }
    });
}"""
READ = """async () => {
    const whole = saved.startsWith("blob:") ? window.whole : await (await fetch(saved)).blob();
    return [...new Uint8Array(await whole.arrayBuffer())];
}"""

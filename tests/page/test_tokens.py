"""Tokens, links and tickets on the page."""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.support.access import KEY, line
from tests.support.browsers import Profile, Tab
from tests.support.pictures import png
from tests.support.servers import Server, gunicorn
from wsgi_store.access.signing import Signer

pytestmark = pytest.mark.clients

TOKENS = {
    "all-token": "read,write,list,delete,link",
    "plain-token": "read,write,list,delete",
    "writing-token": "write",
}
COUNT = "(selector, count) => document.querySelectorAll(selector).length === count"
SIGNER = Signer([KEY])


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service for those with tokens."""
    directory = tmp_path_factory.mktemp("service")
    tokens = directory / "tokens"
    tokens.write_text("".join(line(token, scopes) for token, scopes in TOKENS.items()))
    with gunicorn(directory, WSGI_STORE_TOKENS=str(tokens), WSGI_STORE_SIGNING_KEYS=KEY) as server:
        yield server


def page(server: Server, query: str = "") -> str:
    """The address of the page."""
    return f"http://127.0.0.1:{server.port}/{query}"


def send(server: Server, data: bytes) -> str:
    """Store a file; returns its hash."""
    request = urllib.request.Request(page(server), data, {"Authorization": "Bearer all-token"})
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["hash"])


def enter(tab: Tab, token: str, *, keep: bool = False) -> None:
    """Enter a token in the dialog."""
    tab.until("() => document.activeElement.id === 'token'")
    tab.press("Control+A")
    tab.type(token)
    if keep:
        tab.click("dialog input[type=checkbox]")
    tab.click("dialog .primary")


def is_open(tab: Tab) -> Any:
    """Whether a dialog is open."""
    return tab.js("() => document.querySelector('dialog') !== null")


def test_token(profile: Profile, server: Server) -> None:
    """A wrong token is told; a right one opens the list, for this tab; it is forgotten on demand."""
    hash_ = send(server, b"for the list")
    tab = profile.tab(page(server))
    tab.until("() => !!document.querySelector('[data-do=token]')")
    assert tab.js(COUNT, ".stored li", 0)
    tab.click("[data-do=token]")
    for wrong in ["nonsense", "имя", "a b"]:
        enter(tab, wrong)
        tab.until_text("does not know this token", "dialog")
        tab.js("() => (document.querySelector('#token-problem').textContent = '')")
    enter(tab, "all-token")
    line_ = f".stored li[data-hash='{hash_}']"
    tab.until("(line) => document.querySelector(line) !== null", line_)
    assert not is_open(tab)
    tab.page.call("reload")
    tab.until("(line) => document.querySelector(line) !== null", line_)
    other = profile.tab(page(server))
    other.until("() => !!document.querySelector('[data-do=token]')")
    assert other.js(COUNT, ".stored li", 0)
    tab.page.call("bringToFront")
    tab.click("[data-do=token]")
    tab.click("dialog [data-do=forget-token]")
    tab.until(COUNT, ".stored li", 0)
    assert not tab.js("() => JSON.stringify([{...sessionStorage}, {...localStorage}]).includes('all-token')")
    urls = [value["url"] for value in tab.told("request")]
    assert urls and not any("all-token" in url for url in urls)
    assert "all-token" not in server.log.read_text()


def test_token_of_the_device(profile: Profile, server: Server) -> None:
    """A token that is kept for the device works in other tabs, and is forgotten in all of them."""
    hash_ = send(server, b"for the list")
    line_ = f".stored li[data-hash='{hash_}']"
    tab, other = profile.tab(page(server)), profile.tab(page(server))
    other.click("[data-do=token]")
    enter(other, "all-token", keep=True)
    for one in (tab, other, profile.tab(page(server))):
        one.until("(line) => document.querySelector(line) !== null", line_)
    other.page.call("bringToFront")
    other.click("[data-do=token]")
    other.click("dialog [data-do=forget-token]")
    for one in (tab, other):
        one.until(COUNT, ".stored li", 0)


def test_asked_when_needed(profile: Profile, server: Server, tmp_path: Path) -> None:
    """An upload without a token asks for one, once, and goes on with it."""
    tab = profile.tab(page(server))
    files = [tmp_path / f"{name}.txt" for name in ("one", "two", "three")]
    for path in files:
        path.write_text(f"{tab.kind} {path.name}")
    tab.choose("input#files", *files)
    enter(tab, "writing-token")
    tab.until(COUNT, "#queue li[data-hash]", 3)
    assert not is_open(tab)
    # It may neither read nor delete nor list.
    assert tab.js(COUNT, "#queue :is([data-do=download], [data-do=delete], [data-do=preview])", 0)


@pytest.mark.parametrize("token", ["all-token", "plain-token"])
def test_reading_with_a_token(profile: Profile, server: Server, token: str) -> None:
    """Looking and downloading work with a token; a link is signed if the token allows that, or needs one."""
    data = png(40, 30) + profile.browser.kind.encode() + token.encode()
    hash_ = send(server, data)
    tab = profile.tab(page(server))
    tab.click("[data-do=token]")
    enter(tab, token)
    line_ = f".stored li[data-hash='{hash_}']"
    tab.until("(line) => document.querySelector(line) !== null", line_)
    tab.js("(line) => document.querySelector(line).querySelector('[data-do=preview]').click()", line_)
    tab.until("() => document.querySelector('dialog img')?.naturalWidth === 40")
    assert tab.js("() => document.querySelector('dialog img').src").startswith("blob:") == (
        token != "all-token"
    )
    tab.click("dialog [data-do=close]")
    tab.js(SAVED)
    tab.click(f"{line_} [data-do=download]")
    tab.until("() => window.saved")
    assert sha256(bytes(tab.js(READ))).hexdigest() == hash_
    tab.click(f"{line_} [data-do=copy-link]")
    if token == "all-token":
        tab.until_text("This link works until", line_)
        tab.click(f"{line_} [data-do=share]")
        tab.click("dialog .primary")
        url = tab.until("() => document.querySelector('dialog .address')?.value")
        assert url.startswith(page(server, hash_)) and "?link=" in url
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == data
    else:
        tab.until_text("needs a token", line_)
        assert tab.js(COUNT, "[data-do=ticket]:not([hidden])", 0)


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


def test_ticket(profile: Profile, server: Server, tmp_path: Path) -> None:
    """Somebody makes a ticket; its page takes one file, once, and shows nothing else."""
    tab = profile.tab(page(server))
    tab.click("[data-do=token]")
    enter(tab, "all-token")
    tab.click("[data-do=ticket]")
    tab.until("() => document.activeElement.type === 'number'")
    tab.type("1")
    tab.press("Enter")
    url = tab.until("() => document.querySelector('dialog .address')?.value")
    guest = profile.tab(url)
    guest.until_text("Somebody asks you for a file")
    guest.until_text("1 MB")
    assert guest.js(COUNT, ":is(.stored, .remembered, [data-do=token])", 0)
    for name, size in [("big", 1_000_001), ("a", 3)]:
        (tmp_path / name).write_bytes(guest.kind.encode() * (size // len(guest.kind) + 1))
    guest.choose("input#files", tmp_path / "big")
    guest.until_text("larger than 1 MB", "#queue")
    guest.choose("input#files", tmp_path / "a")
    guest.until_text("Your file has arrived")
    guest.until(COUNT, "#queue li[data-hash]", 1)
    assert guest.js("() => document.querySelector('#add').hidden")
    again = profile.tab(url)
    again.until_text("has been used")
    assert again.js(COUNT, "input[type=file]", 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SIGNER.ticket(time.time() - 1), "has expired"),
        (lambda: "nonsense", "damaged or not valid"),
        (lambda: SIGNER.link("0" * 64, time.time() + 60), "damaged or not valid"),
    ],
    ids=["expired", "nonsense", "link"],
)
def test_dead_tickets(profile: Profile, server: Server, make: Callable[[], str], words: str) -> None:
    """The page of a ticket that is not valid says why, and takes nothing."""
    tab = profile.tab(page(server, f"?ticket={make()}"))
    tab.until_text(words)
    assert tab.js(COUNT, "input[type=file]", 0)


def test_ticket_for_one_file(profile: Profile, server: Server, tmp_path: Path) -> None:
    """A ticket for one hash takes no other file."""
    wanted = sha256(profile.browser.kind.encode()).hexdigest()
    tab = profile.tab(page(server, f"?ticket={SIGNER.ticket(time.time() + 60, hash_=wanted)}"))
    (tmp_path / "other").write_text("other")
    (tmp_path / "wanted").write_text(profile.browser.kind)
    tab.choose("input#files", tmp_path / "other")
    tab.until_text("This link is for another file")
    tab.choose("input#files", tmp_path / "wanted")
    tab.until_text("Your file has arrived")

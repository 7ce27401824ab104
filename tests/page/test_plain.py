"""The page without scripts."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.access import KEY
from tests.support.browsers import PLAIN_HOST, Browser, Profile, running
from tests.support.fresh import MIB, fresh
from tests.support.servers import Server, gunicorn
from tests.support.visits import Visit
from wsgi_store.access.signing import Signer

pytestmark = pytest.mark.clients


@pytest.fixture(name="browser", scope="module")
def fixture_browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """A browser of its own, because Firefox takes scripts away from all tabs."""
    with running(request.param, extraPrefsFirefox={"javascript.enabled": False}) as browser:
        yield browser


@pytest.fixture(name="small", scope="module")
def fixture_small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that takes files up to 1 MiB, over plain HTTP, too."""
    with gunicorn(
        tmp_path_factory.mktemp("small"), WSGI_STORE_HOSTS=PLAIN_HOST, WSGI_STORE_MAX_SIZE="1MiB"
    ) as server:
        yield server


def opened(
    profile: Profile, server: Server, host: str = "127.0.0.1", language: str = "en", query: str = ""
) -> Visit:
    """A person without scripts who has opened the page."""
    tab = profile.tab()
    if tab.kind == "chromium":
        tab.page.call("setJavaScriptEnabled", False)
    tab.page.call("setExtraHTTPHeaders", {"Accept-Language": language})
    tab.go(f"http://{host}:{server.port}/{query}")
    return Visit(tab, language)


def send(visit: Visit, *paths: Path) -> None:
    """Choose files in the form and send them by the keyboard."""
    visit.tab.choose("form input[type=file]", *paths)
    visit.tab.js("() => document.querySelector('form button').focus()")
    visit.tab.press("Enter")


@pytest.mark.parametrize("host", ["127.0.0.1", PLAIN_HOST], ids=["localhost", "plain HTTP"])
@pytest.mark.parametrize("language", ["en", "ru"])
def test_form(profile: Profile, small: Server, tmp_path: Path, host: str, language: str) -> None:
    """Without scripts a form takes a file, and the answer has its hash and a link."""
    hash_ = fresh(tmp_path / "letter é.txt")
    visit = opened(profile, small, host, language)
    assert not visit.tab.js("() => document.querySelector('.scripted')?.checkVisibility()")
    send(visit, tmp_path / "letter é.txt")
    visit.tab.until_text(hash_)
    assert hash_ in small.blobs()
    link = visit.tab.js("(hash) => document.querySelector(`a[href*='${hash}']`).href", hash_)
    assert link.startswith(f"http://{host}:{small.port}/{hash_}")


@pytest.mark.parametrize("language", ["en", "ru"])
def test_too_large(profile: Profile, small: Server, tmp_path: Path, language: str) -> None:
    """Without scripts a refusal is a page with a sentence, and with a way back to the form."""
    fresh(tmp_path / "film.bin", 2 * MIB)
    visit = opened(profile, small, language=language)
    send(visit, tmp_path / "film.bin")
    visit.sees("error.too_large.what")
    hash_ = fresh(tmp_path / "letter.txt")
    visit.tab.js("() => document.querySelector('main a').focus()")
    visit.tab.press("Enter")
    visit.sees("form.choose")
    send(visit, tmp_path / "letter.txt")
    visit.tab.until_text(hash_)


@pytest.mark.parametrize("language", ["en", "ru"])
def test_several(profile: Profile, small: Server, tmp_path: Path, language: str) -> None:
    """Without scripts a form takes several files, and the answer has the hash and a link of each."""
    hashes = [fresh(tmp_path / name) for name in ("letter é.txt", "b.txt")]
    visit = opened(profile, small, language=language)
    send(visit, tmp_path / "letter é.txt", tmp_path / "b.txt")
    visit.sees("answer.all")
    for hash_ in hashes:
        visit.tab.until_text(hash_)
        assert hash_ in small.blobs()
    links = visit.tab.js("() => [...document.querySelectorAll('dt a')].map((link) => link.href)")
    home = f"http://127.0.0.1:{small.port}"
    assert links == [f"{home}/{hashes[0]}/letter%20%C3%A9.txt", f"{home}/{hashes[1]}/b.txt"]


def test_one_of_several_is_too_large(profile: Profile, small: Server, tmp_path: Path) -> None:
    """Without scripts the answer tells which of several files are stored, and why one is not."""
    hash_ = fresh(tmp_path / "letter.txt")
    fresh(tmp_path / "film.bin", 2 * MIB)
    visit = opened(profile, small)
    send(visit, tmp_path / "film.bin", tmp_path / "letter.txt")
    visit.sees("error.files_refused.what")
    visit.sees("error.too_large.what")
    visit.tab.until_text(hash_)
    assert visit.tab.js("() => [...document.querySelectorAll('dt')].map((name) => name.innerText)") == [
        "film.bin",
        "letter.txt",
    ]
    assert hash_ in small.blobs()


def test_missing(profile: Profile, small: Server) -> None:
    """A link to a file that is gone leads to a page with a sentence."""
    visit = opened(profile, small)
    assert visit.tab.go(f"http://127.0.0.1:{small.port}/{'0' * 64}") == 404
    visit.sees("error.blob_not_found.what")


def test_ticket(profile: Profile, guarded: Server, tmp_path: Path) -> None:
    """Without scripts a ticket takes a file, once, also after the language was changed."""
    query = f"?ticket={Signer([KEY]).ticket(time.time() + 600)}"
    hash_ = fresh(tmp_path / "letter.txt")
    visit = opened(profile, guarded, query=query)
    visit.tab.js("() => document.querySelector('a[hreflang=ru]').focus()")
    visit.tab.press("Enter")
    russian = Visit(visit.tab, "ru")
    russian.sees("form.choose")
    send(russian, tmp_path / "letter.txt")
    russian.sees("answer.stored")
    assert hash_ in guarded.blobs()
    opened(profile, guarded, query=query).sees("refused.used.what")

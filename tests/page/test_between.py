"""Proxies that answer for the service, and what damages answers."""

from pathlib import Path

import pytest

from tests.support.between import Between, Fields
from tests.support.browsers import Profile
from tests.support.fresh import MIB, fresh
from tests.support.servers import Server
from tests.support.visits import Visit

pytestmark = pytest.mark.clients
PAGE = b"<!doctype html><title>Sorry</title><h1>Something is wrong</h1>"


@pytest.mark.parametrize("status", [429, 502, 504])
def test_busy(profile: Profile, service: Server, tmp_path: Path, status: int) -> None:
    """A proxy says in HTML that the service is busy or away: the page waits, and goes on."""
    left = 3

    def own(method: str, _: str) -> tuple[int, Fields, bytes] | None:
        nonlocal left
        if method == "GET" or left == 0:
            return None
        left -= 1
        return status, {"Content-Type": "text/html", "Retry-After": "1"}, PAGE

    with Between(service.port, own) as proxy:
        visit = Visit(profile.tab(f"{proxy.url}/"))
        for name, size in (("small.bin", 1000), ("large.bin", 2 * MIB)):
            hash_ = fresh(tmp_path / name, size)
            visit.choose(tmp_path / name)
            assert visit.until_stored(name) == hash_
            assert hash_ in service.blobs()
    assert left == 0


@pytest.mark.parametrize("size", [1000, 2 * MIB], ids=["one request", "pieces"])
def test_tampered(profile: Profile, service: Server, tmp_path: Path, size: int) -> None:
    """An answer that names another hash is told as an error, with no link to what is not the file."""
    hash_ = fresh(tmp_path / "film.bin", size)
    other = fresh(tmp_path / "other.bin", 1000)
    changing = True

    def changed(data: bytes) -> bytes:
        return data.replace(hash_.encode(), other.encode()) if changing else data

    with Between(service.port, changed=changed) as proxy:
        visit = Visit(profile.tab(f"{proxy.url}/"))
        visit.choose(tmp_path / "film.bin")
        visit.until_state("film.bin", "failed")
        visit.sees("error.hash_mismatch.what")
        visit.sees("error.hash_mismatch.next")
        assert not visit.tab.js("() => document.querySelector('#queue-files a[href]')")
        changing = False
        visit.act("retry", "film.bin")
        assert visit.until_stored("film.bin") == hash_

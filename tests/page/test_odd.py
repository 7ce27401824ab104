"""Files that change or are alike, and a clock that is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bridge import function
from tests.support.browsers import Profile
from tests.support.fresh import MIB, fresh
from tests.support.relay import Relay
from tests.support.servers import Server, until
from tests.support.visits import HASTE, LINE, Visit

pytestmark = pytest.mark.clients
# Shifts the clock of the device by so many years.
CLOCK = """() => {
    const [True, shift] = [Date, 1000 * 3600 * 24 * 365 * YEARS];
    globalThis.Date = class extends True {
        constructor(...given) {
            super(...(given.length > 0 ? given : [True.now() + shift]));
        }

        static now() {
            return True.now() + shift;
        }
    };
}"""


def changed(path: Path) -> None:
    """Other bytes, and more of them."""
    path.write_bytes(path.read_bytes()[::-1] + b"more")


def shortened(path: Path) -> None:
    """Less than a browser has read already."""
    with path.open("r+b") as file:
        file.truncate(MIB)


@pytest.mark.parametrize("change", [changed, shortened, Path.unlink], ids=["changed", "shortened", "removed"])
@pytest.mark.parametrize("size", [24 * MIB, 40 * MIB], ids=["hashed first", "hashed meanwhile"])
def test_changed(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    profile: Profile,
    slow: Relay,
    service: Server,
    tmp_path: Path,
    change: Callable[[Path], None],
    size: int,
) -> None:
    """A file that changes or goes while it is sent is never stored as if whole, and the person is told."""
    fresh(tmp_path / "film.bin", size)
    before = service.blobs()
    # Firefox sends nothing more of a file that became shorter, and says nothing.
    tab = profile.tab(evaluateOnNewDocument=function(HASTE))
    tab.go(f"{slow.url}/")
    visit = Visit(tab)
    begun = slow.carried
    visit.choose(tmp_path / "film.bin")
    until(lambda: slow.carried >= begun + 8 * MIB, "bytes")
    change(tmp_path / "film.bin")
    if visit.until_state("film.bin", "failed", "done") == "failed":
        words = visit.tab.text("#queue-files .file-problem")
        keys = ("file_changed", "file_unreadable", "hash_mismatch", "digest_mismatch")
        assert any(visit.words(f"error.{key}.what") in words for key in keys), words
        # The server may have the bytes of a file that was sent while it was hashed, but nobody gets a link.
        assert size > 32 * MIB or service.blobs() == before
        assert not visit.tab.js("() => document.querySelector('#queue-files a[href]')")
    else:
        # Firefox had read it to its end.
        assert len(service.blobs() - before) == 1


def test_gone(profile: Profile, slow: Relay, service: Server, tmp_path: Path) -> None:
    """A file that goes before its turn is told, and those after it are stored."""
    names = [f"{number}.bin" for number in range(8)]
    wanted = {name: fresh(tmp_path / name, 3 * MIB) for name in names}
    visit = Visit(profile.tab(f"{slow.url}/"))
    visit.choose(*(tmp_path / name for name in names))
    (tmp_path / "6.bin").unlink()
    visit.until_state("6.bin", "failed")
    visit.sees("error.file_unreadable.next")
    for name in names:
        if name != "6.bin":
            assert visit.until_stored(name) == wanted[name]
    assert wanted["6.bin"] not in service.blobs()


@pytest.mark.parametrize("size", [1000, 2 * MIB, 40 * MIB], ids=["small", "hashed first", "large"])
def test_twice(profile: Profile, slow: Relay, service: Server, tmp_path: Path, size: int) -> None:
    """A file is added twice, in another tab too, and under another name: each line gets its hash."""
    hash_ = fresh(tmp_path / "film.bin", size)
    (tmp_path / "copy.bin").write_bytes((tmp_path / "film.bin").read_bytes())
    first, second = (Visit(profile.tab(f"{slow.url}/")) for _ in range(2))
    first.choose(tmp_path / "film.bin", tmp_path / "copy.bin")
    first.choose(tmp_path / "film.bin")
    second.choose(tmp_path / "film.bin")
    source = (
        "() => [...document.querySelectorAll('#queue-files > [data-hash]')].map((one) => one.dataset.hash)"
    )
    for visit, count in ((first, 3), (second, 1)):
        # Browsers draw nothing in tabs behind others.
        visit.tab.page.call("bringToFront")
        visit.tab.until(f"() => ({source})().length === {count}", seconds=90)
        assert visit.tab.js(source) == [hash_] * count
    assert hash_ in service.blobs()


@pytest.mark.parametrize("years", [-40, 40])
def test_clock(profile: Profile, service: Server, tmp_path: Path, years: int) -> None:
    """The clock of the device is wrong by many years: files are stored, and their links work."""
    hash_ = fresh(tmp_path / "film.bin", 2 * MIB)
    tab = profile.tab(evaluateOnNewDocument=function(CLOCK.replace("YEARS", str(years))))
    tab.go(f"http://127.0.0.1:{service.port}/")
    visit = Visit(tab)
    visit.choose(tmp_path / "film.bin")
    assert visit.until_stored("film.bin") == hash_
    assert (
        tab.js(f"(name) => fetch(({LINE})(name).querySelector('a').href).then((it) => it.status)", "film.bin")
        == 200
    )

"""The pictures of docs/page.md: `make pictures` writes them, and each run shows that they can be made."""

import os
from pathlib import Path

import pytest

from tests.support.browsers import Browser, Tab
from tests.support.servers import gunicorn

pytestmark = pytest.mark.clients
ONCE = pytest.mark.only("chromium", "each picture is taken once")
IMAGES = Path(__file__).parents[2] / "docs/images"
# Set by `make pictures`.
WRITES = "PICTURES"
DESK = (1100, 760)
PHONE = (390, 844)
# Bytes each second of the upload that is under way in a picture.
SLOW = 4_000_000
# A transition would be caught half way.
STILL = {"name": "prefers-reduced-motion", "value": "reduce"}
DARK = {"name": "prefers-color-scheme", "value": "dark"}
FILES = {
    "Minutes of the meeting.txt": b"1. Who writes the minutes\n2. Everything else\n" * 50,
    "Harbour at dawn.jpg": b"\xff\xd8\xff" + bytes(range(256)) * 9_000,
    "Trailer, first cut.mp4": bytes(60_000_000),
}


@pytest.fixture(name="paths")
def fixture_paths(tmp_path: Path) -> list[Path]:
    """The files that are uploaded."""
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    return [tmp_path / name for name in FILES]


def picture(tab: Tab, name: str, directory: Path) -> None:
    """Take a picture of what is in sight."""
    path = directory / f"page-{name}.webp"
    tab.screenshot(path, type="webp", quality=80)
    size = path.stat().st_size
    assert 5_000 < size < 60_000
    if os.environ.get(WRITES):
        IMAGES.mkdir(exist_ok=True)
        (IMAGES / path.name).write_bytes(path.read_bytes())


@ONCE
def test_pictures(browser: Browser, paths: list[Path], tmp_path: Path) -> None:
    """The empty page, uploads under way in two schemes, and on a phone."""
    with gunicorn(tmp_path, WSGI_STORE_MAX_SIZE="100MB") as server, browser.profile() as profile:
        tab = profile.tab(f"http://127.0.0.1:{server.port}/")
        tab.page.call("emulateMediaFeatures", [STILL])
        tab.size(*DESK)
        picture(tab, "light", tmp_path)
        slow = {"upload": SLOW, "download": SLOW, "latency": 0}
        tab.page.call("emulateNetworkConditions", slow)
        tab.choose("#files", *paths)
        tab.until("() => document.querySelectorAll('#queue-files [data-hash]').length === 2")
        tab.until("() => document.querySelector('[data-state=sending] progress')?.value > 0.3", seconds=60)
        picture(tab, "uploading", tmp_path)
        tab.page.call("emulateMediaFeatures", [STILL, DARK])
        picture(tab, "dark", tmp_path)
        tab.size(*PHONE)
        picture(tab, "phone", tmp_path)
        # Leaving asks whether the upload may end.
        tab.expected = ["beforeunload"]


@ONCE
def test_picture_of_an_error(browser: Browser, paths: list[Path], tmp_path: Path) -> None:
    """Uploads that failed: the store has no room, and a file is too large."""
    too_large = tmp_path / "Backup of the archive.zip"
    with too_large.open("wb") as file:
        file.truncate(200_000_000)
    # No disk has so much free space.
    full = {"WSGI_STORE_MIN_FREE": "1000000TiB", "WSGI_STORE_MAX_SIZE": "100MB"}
    with gunicorn(tmp_path, **full) as server, browser.profile() as profile:
        server.expected.append("not enough free space")
        tab = profile.tab(f"http://127.0.0.1:{server.port}/")
        tab.page.call("emulateMediaFeatures", [STILL])
        tab.size(*DESK)
        tab.choose("#files", paths[-1], too_large)
        tab.until("() => document.querySelectorAll('[data-state=failed]').length === 2")
        # The sum follows within a moment.
        tab.until_text("2 failed", "#queue-facts")
        picture(tab, "error", tmp_path)

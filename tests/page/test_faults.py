"""Full disks."""

from pathlib import Path

import pytest

from tests.support.browsers import Profile
from tests.support.faults import disk, full
from tests.support.fresh import MIB, fresh
from tests.support.servers import gunicorn
from tests.support.visits import Visit

pytestmark = pytest.mark.clients


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

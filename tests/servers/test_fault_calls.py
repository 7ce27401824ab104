"""System calls of gunicorn that strace makes fail: the answer, what stays behind, and recovery."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.exchanges import told
from tests.support.faults import (
    FULL,
    UNAVAILABLE,
    disk,
    fetched,
    fresh,
    hash_of,
    injected,
    intact,
    ready,
    refused,
    serving,
    staged_names,
    stored,
    upload,
)
from tests.support.servers import Server
from tests.support.wire import Connection, message

# Coverage's own system calls would fail in place of the server's.
pytestmark = pytest.mark.uncounted

# Errors that any file system may return, disk quotas included.
CODES = {
    "EIO": (UNAVAILABLE, "Input/output error"),
    "EROFS": (UNAVAILABLE, "Read-only file system"),
    "ESTALE": (UNAVAILABLE, "Stale file handle"),
    "ENOSPC": (FULL, "No space left on device"),
    "EDQUOT": (FULL, "Disk quota exceeded"),
}
HELD = fresh(0)


class Fault(NamedTuple):
    """A system call to fail; a frequent one is limited to these paths."""

    call: str
    paths: Callable[[Path, str], list[Path]] = lambda root, hash_: []
    when: str = "1+"


def staging(root: Path, _: str) -> list[Path]:
    """The directory of staged files."""
    return [root / ".staging"]


def staged(root: Path, _: str) -> list[Path]:
    """The names of the next staged files."""
    return staged_names(root)


def shard(root: Path, hash_: str) -> list[Path]:
    """The directory of the blob."""
    return [root / hash_[:2]]


def blob(root: Path, hash_: str) -> list[Path]:
    """The file of the blob, which is also named relative to its shard's descriptor."""
    return [root / hash_[:2] / hash_, Path(hash_)]


STAT = "/^(statx|newfstatat|fstat)$"
# The system calls of each step of a request.
CHECKED = {
    "free space": Fault("/^statfs", staging),
    "make": Fault("openat", staging),
    "write": Fault("write", staged),
    "sync": Fault("fsync"),
}
UPLOADED = {
    **CHECKED,
    "mode": Fault("fchmod", staged),
    "new shard": Fault("/^mkdir"),
    "sync of the root": Fault("fsync", when="2"),
    "shard": Fault("openat", shard),
    "link": Fault("/^link"),
}
DUPLICATED = {
    "held": Fault("openat", blob),
    "description": Fault(STAT, blob),
    "sync of the held": Fault("fsync", blob),
}
DELETED = {"look": Fault(STAT, blob), "unlink": Fault("/^unlink")}
DOWNLOADED = {
    "open": Fault("openat", blob),
    "description": Fault(STAT, blob),
    "read": Fault("/^pread", blob),
}


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("calls")
    # With this umask the mode of a file has to be set after it was created. gunicorn's own --umask sets none.
    umask = ("sh", "-c", 'umask 077 && exec "$@"', "sh")
    with disk("tmpfs", directory / "store", 64 << 20), serving(directory, before=umask) as server:
        yield server


@pytest.fixture(name="client")
def _client(server: Server) -> Iterator[Connection]:
    with Connection(server.port) as client:
        assert stored(client, HELD) in intact(server)
        before = server.descriptors()
        yield client
        # Afterwards everything works again, on the same connection.
        ready(server, client, whether=True)
        assert stored(client, HELD) in intact(server)
        server.until_unused(before)


def failing(server: Server, fault: Fault, code: str, hash_: str) -> AbstractContextManager[None]:
    """Make a step fail with this error code."""
    inject = f"{fault.call}:error={code}:when={fault.when}"
    return injected(server, inject, paths=fault.paths(server.root, hash_))


def in_a_new_shard(server: Server) -> bytes:
    """Bytes whose blob needs a new shard."""
    for number in range(1, 100_000):
        data = fresh(number, 100)
        if not (server.root / hash_of(data)[:2]).exists():
            return data
    raise AssertionError("every shard is there")


@pytest.mark.races
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("step", UPLOADED)
def test_uploads(server: Server, client: Connection, step: str, code: str) -> None:
    """An upload that fails at any step gets 507 if the disk is full, else 503, and stores nothing."""
    data = in_a_new_shard(server)
    before = intact(server)
    told_as, cause = CODES[code]
    with failing(server, UPLOADED[step], code, hash_of(data)):
        refused(server, client.ask(upload(data)), told_as, cause)
        if step in CHECKED:
            ready(server, client, whether=False)
        # Downloads still work.
        assert fetched(client, hash_of(HELD)) == HELD
    assert intact(server) == before
    told(client.ask(upload(data)))
    assert client.ask(message("DELETE", f"/{hash_of(data)}")).status == 200


@pytest.mark.parametrize("code", CODES)
def test_an_upload_that_cannot_be_synced_in_the_end(server: Server, client: Connection, code: str) -> None:
    """If syncing the shard fails, the blob is complete but not acknowledged."""
    data = in_a_new_shard(server)
    told_as, cause = CODES[code]
    # Synced in this order: the file, the root for its new shard, the shard for its new blob.
    with failing(server, Fault("fsync", when="3"), code, hash_of(data)):
        refused(server, client.ask(upload(data)), told_as, cause)
    assert hash_of(data) in intact(server)
    assert told(client.ask(upload(data))) == (hash_of(data), len(data), False)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("step", DUPLICATED)
def test_uploads_of_what_is_held(server: Server, client: Connection, step: str, code: str) -> None:
    """A duplicate of a blob that cannot be read or synced is not acknowledged."""
    before = intact(server)
    told_as, cause = CODES[code]
    with failing(server, DUPLICATED[step], code, hash_of(HELD)):
        refused(server, client.ask(upload(HELD)), told_as, cause)
    assert intact(server) == before


def test_a_comparison_that_fails(tmp_path: Path) -> None:
    """A duplicate by md5 that cannot be compared with the stored blob is not acknowledged."""
    with disk("tmpfs", tmp_path / "store", 64 << 20), serving(tmp_path, hash_="md5") as server:
        with Connection(server.port) as client:
            hash_ = told(client.ask(upload(HELD)))[0]
            for code, (told_as, cause) in CODES.items():
                with failing(server, Fault("/^pread", blob), code, hash_):
                    refused(server, client.ask(upload(HELD)), told_as, cause)
            assert told(client.ask(upload(HELD))) == (hash_, len(HELD), False)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("step", DELETED)
def test_deletions(server: Server, client: Connection, step: str, code: str) -> None:
    """A failed deletion leaves the blob as it was."""
    before = intact(server)
    told_as, cause = CODES[code]
    with failing(server, DELETED[step], code, hash_of(HELD)):
        refused(server, client.ask(message("DELETE", f"/{hash_of(HELD)}")), told_as, cause)
    assert intact(server) == before


@pytest.mark.parametrize("code", CODES)
def test_a_deletion_that_cannot_be_synced(server: Server, client: Connection, code: str) -> None:
    """If syncing the shard fails, the deletion is not acknowledged."""
    told_as, cause = CODES[code]
    with failing(server, Fault("fsync"), code, hash_of(HELD)):
        refused(server, client.ask(message("DELETE", f"/{hash_of(HELD)}")), told_as, cause)
    assert hash_of(HELD) not in intact(server)
    assert client.ask(message("DELETE", f"/{hash_of(HELD)}")).status == 404


@pytest.mark.parametrize("code", ["EIO", "ESTALE", "EACCES", "EMFILE"])
@pytest.mark.parametrize("step", DOWNLOADED)
def test_downloads(server: Server, client: Connection, step: str, code: str) -> None:
    """A blob that cannot be read gets 503, and other blobs are still sent."""
    other = stored(client, b"another")
    with failing(server, DOWNLOADED[step], code, hash_of(HELD)):
        refused(server, client.ask(message("GET", f"/{hash_of(HELD)}")), UNAVAILABLE)
        if step == "read":
            ranged = message("GET", f"/{hash_of(HELD)}", Range="bytes=5-99")
            refused(server, client.ask(ranged), UNAVAILABLE)
        assert fetched(client, other) == b"another"

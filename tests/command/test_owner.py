"""Root working on another user's store, while that user replaces files with links."""

import ctypes
import errno
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.support.commands import install, run
from tests.support.kinds import KINDS, LocalKind, digest_of, put, refusing_nameless
from tests.support.servers import PROJECT
from tests.support.strangers import NOBODY, exchanging, give, home, snapshot
from wsgi_store.access.tickets import UsedTickets
from wsgi_store.cli.owner import LATER, become_owner
from wsgi_store.client.save import save
from wsgi_store.digest import Algorithm
from wsgi_store.errors import ConfigError, WSGIStoreError
from wsgi_store.filesystem import make_directory
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Added
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.store.staged import sweep
from wsgi_store.upkeep.usage import usage

ROUNDS = 150
NEW_USER = 0x10000000  # CLONE_NEWUSER, unshare(2)
DUMPABLE = 4  # PR_SET_DUMPABLE, prctl(2)
DATA = [str(number).encode() for number in range(40)]
ASK = """
import os, sys
from wsgi_store.cli.owner import LATER, become_owner
from wsgi_store.errors import ConfigError
try:
    become_owner(sys.argv[1])
except ConfigError as error:
    sys.exit(str(error))
print(os.getresuid(), os.getresgid(), os.getgroups())
"""


def store_at(path: Path, algorithm: Algorithm = Algorithm.MD5) -> LocalStore:
    """A store with intact and damaged blobs, and a file left by a killed process."""
    store = LocalStore(str(path), algorithm)
    for data in DATA:
        hash_ = put(Staging(store), data).digest.hex
        if int(data) % 2:
            (path / hash_[:2] / hash_).chmod(0o644)
            (path / hash_[:2] / hash_).write_bytes(b"damaged")
    (path / ".quarantine").mkdir()
    (path / ".tickets").mkdir()
    (path / ".staging" / ("0" * 32)).touch()
    return store


@pytest.fixture(name="theirs")
def fixture_theirs() -> Iterator[Path]:
    """A store of another user, in a directory of that user."""
    with home() as path:
        store_at(path / "store")
        give(path)
        yield path / "store"


@pytest.fixture(name="ours")
def fixture_ours(tmp_path: Path) -> Path:
    """A store and a secret file of root."""
    store_at(tmp_path / "ours")
    (tmp_path / "ours" / "secret").write_text("token read 0\n", encoding="ascii")
    (tmp_path / "ours" / "secret").chmod(0o600)
    return tmp_path / "ours"


def become(directory: Path | str) -> subprocess.CompletedProcess[str]:
    """Report which user root becomes before it works in a directory."""
    command = [sys.executable, "-c", ASK, str(directory)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("owner, groups", [(NOBODY, [NOBODY]), (54321, [])])
def test_the_owner(theirs: Path, owner: int, groups: list[int]) -> None:
    """Root permanently becomes the owner of the store, groups included, even if the owner has no name."""
    give(theirs, owner)
    os.chown(theirs.parent, owner, owner)
    assert become(theirs).stdout == f"{(owner,) * 3} {(NOBODY,) * 3} {groups}\n"
    link = theirs.parent / "link"
    link.symlink_to("store")
    os.chown(link, owner, owner, follow_symlinks=False)
    assert become(link).stdout == become(theirs).stdout


def test_a_store_of_root(ours: Path) -> None:
    """Root stays root if nobody else can change the store."""
    if os.geteuid():
        pytest.skip("needs root")
    assert become(ours).stdout.startswith("(0, 0, 0) ")


@pytest.mark.parametrize("owner", [0, 54321])
def test_a_way_that_others_decide(theirs: Path, owner: int) -> None:
    """Root does not follow a path through a directory of one user to the store of another."""
    give(theirs, owner)
    done = become(theirs)
    assert done.returncode == 1
    assert f"others can replace {theirs.parent}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_way_that_all_may_write_to() -> None:
    """In a world-writable directory root rejects a store that others could replace."""
    with home(0) as path:
        (path / "store").mkdir()
        path.chmod(0o777)
        assert f"others can replace {path}" in become(path / "store").stderr
        path.chmod(0o1777)
        assert become(path / "store").returncode == 0
        (path / "link").symlink_to("store")
        os.chown(path / "link", NOBODY, NOBODY, follow_symlinks=False)
        assert f"others can replace {path / 'link'}" in become(path / "link").stderr


@pytest.mark.races
@pytest.mark.uncounted  # the owner may not write coverage data
@pytest.mark.parametrize(
    "name", [".staging", ".quarantine", ".verified.json", "store.json", "shards", "store"]
)
def test_maintenance(tmp_path: Path, theirs: Path, ours: Path, name: str) -> None:
    """Maintenance changes nothing outside the store, even if parts of it become links meanwhile."""
    program = install(tmp_path / "bin")
    names = sorted(os.listdir(theirs)) if name == "shards" else [name]
    pairs = []
    for one in (one for one in names if name != "shards" or len(one) == 2):
        place, target = (theirs, ours) if one == "store" else (theirs / one, ours / one)
        if one == ".verified.json":
            place.touch()
        place.with_name(f"link-{one}").symlink_to(target)
        pairs.append((place, place.with_name(f"link-{one}")))
    give(theirs.parent)
    before = snapshot(ours)
    with exchanging(*pairs):
        for arguments in (
            ("du",),
            ("verify",),
            ("collect", "--older", "0s", "--quarantined-older", "0s"),
            ("manifest",),
        ):
            done = run(program, *arguments, "--root", str(theirs))
            assert b"Traceback" not in done.stderr
    assert snapshot(ours) == before
    made = {one.lstat().st_uid for one in theirs.parent.rglob("*")}
    assert made <= {NOBODY}


@pytest.mark.uncounted  # the owner may not write coverage data
def test_the_file_of_tokens(tmp_path: Path, ours: Path) -> None:
    """If another user replaces the token file with a link, no content readable only by root gets into it."""
    program = install(tmp_path / "bin")
    secret = f"root read {'0' * 64}\n"
    (ours / "secret").write_text(secret, encoding="ascii")
    with home() as path:
        tokens = path / "tokens"
        tokens.write_text("", encoding="ascii")
        (path / "link").symlink_to(ours / "secret")
        give(path)
        with exchanging((tokens, path / "link")):
            for number in range(10):
                done = run(program, "token", "add", f"name{number}", "--scope", "read", "--file", str(tokens))
                assert b"Traceback" not in done.stderr
        found = [one for one in path.iterdir() if not one.is_symlink()]
        assert {one.stat().st_uid for one in found} == {NOBODY}
        assert not [one for one in found if "root" in one.read_text(encoding="ascii")]
    assert (ours / "secret").read_text(encoding="ascii") == secret


def test_the_file_of_tokens_keeps_its_owner(tmp_path: Path) -> None:
    """In a directory of root, a token file keeps its owner."""
    if os.geteuid():
        pytest.skip("needs root")
    program = install(tmp_path / "bin")
    tokens = tmp_path / "tokens"
    tokens.touch()
    os.chown(tokens, NOBODY, 54321)
    done = run(program, "token", "add", "name", "--scope", "read", "--file", str(tokens))
    assert done.returncode == 0, done.stderr
    assert (tokens.stat().st_uid, tokens.stat().st_gid) == (NOBODY, 54321)


def test_a_download_in_a_directory_of_others(tmp_path: Path) -> None:
    """A download does not write through a symbolic link at FILE.part."""
    (tmp_path / "theirs").write_bytes(b"kept")
    (tmp_path / "file.part").symlink_to("theirs")
    with pytest.raises(OSError, match="symbolic links"):
        save(lambda file: pytest.fail("asked"), lambda file: False, str(tmp_path / "file"), force=False)
    assert (tmp_path / "theirs").read_bytes() == b"kept"


def _exercise(store: LocalStore, staging: Staging, number: int) -> Iterator[Callable[[], object]]:
    data = DATA[number % len(DATA)]
    digest = digest_of(store.algorithm, data)
    yield lambda: make_directory(store.staging_directory)
    yield lambda: sweep(store.staging_directory)
    yield lambda: usage(store)
    yield lambda: put(staging, data)
    yield lambda: store.quarantine(digest)
    yield lambda: list(store.quarantined())
    yield lambda: store.discard(digest)
    yield lambda: store.update_note(".note", lambda _: b"note")
    yield lambda: store.expire(digest, store.stat(digest).modified)
    yield lambda: store.remove(digest)
    yield lambda: UsedTickets(f"{store.root}/.tickets").add(str(number), 1)
    yield lambda: LocalStore(store.root, store.algorithm)


@pytest.mark.parametrize("named", [False, True], ids=["nameless", "named"])
def test_a_server_of_root(theirs: Path, ours: Path, *, named: bool) -> None:
    """A server running as root changes nothing outside another user's store."""
    store = LocalStore(str(theirs), Algorithm.MD5)
    if named:
        with refusing_nameless(95):
            staging = Staging(store)
    else:
        staging = Staging(store)
    shards = {digest_of(Algorithm.MD5, data).hex[:2] for data in DATA}
    pairs = []
    for name in (".staging", ".quarantine", ".tickets", *shards):
        (theirs / f"link-{name}").symlink_to(ours / name)
        pairs.append((theirs / name, theirs / f"link-{name}"))
    give(theirs)
    before = snapshot(ours)
    with exchanging(*pairs):
        for number in range(ROUNDS):
            for act in _exercise(store, staging, number):
                with suppress(WSGIStoreError, OSError):
                    act()
    assert snapshot(ours) == before


def added_by(*before: str, root: Path) -> subprocess.CompletedProcess[str]:
    """Upload a blob in a process started with this prefix."""
    command = [
        *before,
        sys.executable,
        str(PROJECT / "tests/support/uploader.py"),
        str(root),
        "full",
        "add=1",
    ]
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "before",
    [("setpriv", "--inh-caps=-chown", "--bounding-set=-chown"), ("unshare", "--user", "--map-root-user")],
    ids=lambda before: before[0],
)
def test_root_that_may_not_chown(before: tuple[str, ...]) -> None:
    """Root without CAP_CHOWN, as in a container, still accepts uploads."""
    with home(54321) as path:
        path.chmod(0o777)
        (path / "store").mkdir(mode=0o777)
        (path / "store").chmod(0o777)
        os.chown(path / "store", 54321, 54321)
        done = added_by(*before, root=path / "store")
        assert (done.returncode, done.stdout) == (0, "opened\nadd=1\n"), done.stderr


def _in_namespace(directory: str, answer: Connection) -> None:
    for module in LATER:
        import_module(module)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    library = ctypes.CDLL(None)
    library.prctl(DUMPABLE, 1)  # otherwise its files in /proc belong to root
    assert library.unshare(NEW_USER) == 0
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"0 {NOBODY} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"0 {NOBODY} 1", encoding="ascii")
    try:
        become_owner(directory)
        answer.send(str(os.getresuid()))
    except ConfigError as error:
        answer.send(str(error))


@pytest.mark.parametrize(
    "owner, told", [(NOBODY, "[(]0, 0, 0[)]"), (54321, "root does not work in .*: run this as ")]
)
def test_root_of_a_user_namespace(owner: int, told: str) -> None:
    """In a user namespace, root works on its own store, and rejects one of an owner outside the namespace."""
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    with ours, theirs, home(0) as path:
        (path / "store").mkdir()
        os.chown(path / "store", owner, owner)
        process = context.Process(target=_in_namespace, args=(str(path / "store"), theirs))
        process.start()
        process.join()
        assert ours.poll()
        assert re.match(told, ours.recv())


@pytest.mark.parametrize("code", [errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_without_modes_and_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: LocalKind, code: int
) -> None:
    """On a file system without modes and times, uploads are stored, recognized and healed."""

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fchmod", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    store = kind.open(tmp_path / "store", Algorithm.MD5)
    staging = kind.staging(store)
    digest = put(staging, b"data").digest
    before = store.stat(digest).modified
    time.sleep(kind.tick)
    assert put(staging, b"data").added is Added.HELD
    assert store.stat(digest).modified > before
    kind.damage(tmp_path / "store", digest, b"")
    assert put(staging, b"data").added is Added.HEALED
    store.update_note(".note", lambda _: b"note")
    assert store.load_note(".note") == b"note"
    assert not os.listdir(store.staging_directory)

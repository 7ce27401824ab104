"""What the master checks and prepares before it opens a port."""

import fcntl
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from ipaddress import ip_address
from typing import Any, TypedDict

from gunicorn import util

from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.errors import ConfigError, StoreUnavailable, WSGIStoreError
from wsgi_store.store.contract import Store

METRICS = "PROMETHEUS_MULTIPROC_DIR"
METRICS_PREFIX = "wsgi-store-metrics-"
MINUTE = 60.0
# The modules that make the applications of this package.
API, BLOSSOM = "wsgi_store.assembly", "wsgi_store.protocols.blossom"


class _Outcome(TypedDict, total=False):
    """What became of an attempt to open the store; it has one of the two."""

    refusal: str
    algorithms: list[str]


def temporary_directory(named: str | None) -> str:
    """Return a directory in which this process can create files: `named` if given.

    Otherwise /dev/shm, or the directory of `tempfile.gettempdir`. Raises ConfigError.
    """
    # /dev/shm is in memory: a heartbeat must not wait for a disk that is busy with uploads.
    for directory in [named] if named else ["/dev/shm", None]:
        try:
            # Only an attempt tells whether the disk is read-only or full.
            with tempfile.NamedTemporaryFile(dir=directory) as file:
                return os.path.dirname(file.name)
        except OSError as error:
            if named:
                cause = error.strerror
                raise ConfigError(f"--worker-tmp-dir: cannot create a file in {named}: {cause}") from None
    raise ConfigError(
        "cannot create a temporary file: make /dev/shm or /tmp writable, "
        "or name a directory by TMPDIR or --worker-tmp-dir"
    )


def share_metrics(cfg: Any) -> str | None:
    """Create the directory in memory through which workers share metrics, owned by their user.

    Sets PROMETHEUS_MULTIPROC_DIR to it. Returns None if the operator has set that.
    """
    # With this prefix the variable is from the old master, after SIGUSR2.
    if not os.path.basename(os.environ.get(METRICS, METRICS_PREFIX)).startswith(METRICS_PREFIX):
        return None
    parent = temporary_directory(cfg.worker_tmp_dir)
    for name in os.listdir(parent):
        if name.startswith(METRICS_PREFIX):
            _remove_unused(os.path.join(parent, name))
    path = os.environ[METRICS] = tempfile.mkdtemp(prefix=METRICS_PREFIX, dir=parent)
    if (cfg.uid, cfg.gid) != (os.geteuid(), os.getegid()):
        os.chown(path, cfg.uid, cfg.gid)
    # Never closed: the lock says that this master or one of its workers is alive.
    fcntl.flock(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), fcntl.LOCK_SH)
    return path


def _remove_unused(path: str) -> None:
    """Remove the metrics that a killed master left behind."""
    with suppress(OSError):  # in use, another user's, or gone
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A new directory is empty until its master has locked it.
            if os.listdir(fd) or os.fstat(fd).st_mtime < time.time() - MINUTE:
                shutil.rmtree(path)
        finally:
            os.close(fd)


def warn_if_open(server: Any, config: Config) -> None:
    """Warn when other machines can reach a service that requires no tokens."""
    if config.tokens is None:
        for listener in server.LISTENERS:
            address = listener.getsockname()
            if isinstance(address, tuple) and not ip_address(address[0]).is_loopback:
                server.log.warning(
                    "anybody who can reach %s may do everything: set WSGI_STORE_TOKENS", listener
                )


def try_store(config: Config, cfg: Any, application: str) -> tuple[Algorithm, ...]:
    """Open the store as the user of the workers; end this process with one line if that can never work.

    `application` is what the workers will load, because that of Blossom has needs of its own.
    Returns the store's algorithms. A store that does not answer now may answer later: the start goes on
    with a warning, and without algorithms.
    """
    # In a child: a client of an object store may start threads, which the master must not have when it
    # forks workers.
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        outcome: _Outcome = {"refusal": "the process that tried to open the store died"}
        try:
            # Imported late: the master itself does not need it.
            create_app = import_module(BLOSSOM if application.startswith(BLOSSOM) else API).create_app
            util.set_owner_process(cfg.uid, cfg.gid, initgroups=cfg.initgroups)
            outcome = _outcome(lambda: create_app(config).store)
        except BaseException:  # pylint: disable=broad-exception-caught  # the child ends below
            sys.excepthook(*sys.exc_info())
        finally:
            try:
                os.write(writing, json.dumps(outcome).encode())
            finally:
                os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        outcome = json.loads(pipe.read())
    with suppress(ChildProcessError):  # reaped by the handler of SIGCHLD
        os.waitpid(child, 0)
    if "refusal" in outcome:
        sys.exit(f"wsgi-store: {outcome['refusal']}")
    return tuple(map(Algorithm, outcome["algorithms"]))


def _outcome(make: Callable[[], Store]) -> _Outcome:
    try:
        store = make()
        try:
            store.check()
        except StoreUnavailable as error:
            print(f"wsgi-store: starting anyway: {error} ({error.__cause__})", file=sys.stderr, flush=True)
            return {"algorithms": []}
        return {"algorithms": [algorithm.value for algorithm in store.algorithms]}
    except WSGIStoreError as error:
        return {"refusal": str(error)}

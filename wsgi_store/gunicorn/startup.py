"""What this package adds to gunicorn: its log written through loguru, a worker count that fits."""

import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from gunicorn import util

from wsgi_store.config import Config
from wsgi_store.errors import ConfigError, StoreUnavailable, WSGIStoreError
from wsgi_store.store.contract import Store

METRICS = "PROMETHEUS_MULTIPROC_DIR"
METRICS_PREFIX = "wsgi-store-metrics-"
MINUTE = 60.0


def temporary_directory(named: str | None) -> str:
    """Where this process can make a file: `named`, else /dev/shm, else what the environment names.

    Raises ConfigError.
    """
    # In memory: a heartbeat must not wait for a disk that is busy with uploads.
    for directory in [named] if named else ["/dev/shm", None]:
        try:
            # Tried: a mode does not tell that a disk is read-only, or that it is full.
            with tempfile.NamedTemporaryFile(dir=directory) as file:
                return os.path.dirname(file.name)
        except OSError as error:
            if named:
                cause = error.strerror
                raise ConfigError(f"--worker-tmp-dir: cannot make a file in {named}: {cause}") from None
    raise ConfigError(
        "no temporary file can be made: make /dev/shm or /tmp writable, "
        "or name a directory by TMPDIR or --worker-tmp-dir"
    )


def share_metrics(cfg: Any) -> str | None:
    """Make a directory in memory where the workers, whose user `cfg` names, count together; see `counts`.

    Returns None where the operator has named a directory.
    """
    # With this prefix it is the one of the master that USR2 told to start this one.
    if not os.path.basename(os.environ.get(METRICS, METRICS_PREFIX)).startswith(METRICS_PREFIX):
        return None
    parent = temporary_directory(cfg.worker_tmp_dir)
    for name in os.listdir(parent):
        if name.startswith(METRICS_PREFIX):
            _remove_unused(os.path.join(parent, name))
    path = os.environ[METRICS] = tempfile.mkdtemp(prefix=METRICS_PREFIX, dir=parent)
    if (cfg.uid, cfg.gid) != (os.geteuid(), os.getegid()):
        os.chown(path, cfg.uid, cfg.gid)
    # Never closed: locked as long as this master, or a worker of its, lives.
    fcntl.flock(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), fcntl.LOCK_SH)
    return path


def _remove_unused(path: str) -> None:
    """Remove the figures that a killed master left."""
    with suppress(OSError):  # in use, somebody else's, or gone
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # What is empty may have been made just now, and be locked next; or its master never served.
            if os.listdir(fd) or os.fstat(fd).st_mtime < time.time() - MINUTE:
                shutil.rmtree(path)
        finally:
            os.close(fd)


def warn_if_open(server: Any, config: Config) -> None:
    """Warn when others than this machine can reach a service that asks nobody for a token."""
    if config.tokens is None:
        for listener in server.LISTENERS:
            address = listener.getsockname()
            if isinstance(address, tuple) and not ip_address(address[0]).is_loopback:
                server.log.warning(
                    "everybody who reaches %s may do everything: set WSGI_STORE_TOKENS", listener
                )


def try_store(config: Config, cfg: Any) -> None:
    """End this process with one line when the service can never be used as it is set up.

    One that does not answer now may answer later: that is said, and the start goes on. What has to be
    made is made by the user that gunicorn's settings name for the workers.
    """
    # In a child: what is asked may start threads, which a process that forks workers must not have.
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        refusal = "the process that tried the store died"
        try:
            # Imported by this process, which ends: the master has no use for it.
            from wsgi_store.web.application import Application  # pylint: disable=import-outside-toplevel

            util.set_owner_process(cfg.uid, cfg.gid, initgroups=cfg.initgroups)
            refusal = _refusal(lambda: Application(config).store)
        except BaseException:  # pylint: disable=broad-exception-caught  # this process ends below
            sys.excepthook(*sys.exc_info())
        finally:
            try:
                os.write(writing, refusal.encode(errors="backslashreplace"))
            finally:
                os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        refusal = pipe.read()
    with suppress(ChildProcessError):  # gunicorn's, on a reload, may be faster
        os.waitpid(child, 0)
    if refusal:
        sys.exit(f"wsgi-store: {refusal}")


def _refusal(make: Callable[[], Store]) -> str:
    try:
        store = make()
        try:
            store.check()
        except StoreUnavailable as error:
            print(
                f"wsgi-store: starting all the same: {error} ({error.__cause__})", file=sys.stderr, flush=True
            )
    except WSGIStoreError as error:
        return str(error)
    return ""

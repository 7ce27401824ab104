"""What this package adds to gunicorn: its log written through loguru, a worker count that fits."""

import fcntl
import logging
import math
import os
import posixpath
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from gunicorn import glogging, util
from gunicorn.http import message

from wsgi_store import logs
from wsgi_store.accesslog import NOTE, AccessLog, Exchange, Note
from wsgi_store.config import Config
from wsgi_store.errors import ConfigError, StoreUnavailable, WSGIStoreError
from wsgi_store.gunicorn_options import unheeded
from wsgi_store.stores import Store

# An address in X-Forwarded-For, to which some proxies add the port.
FORWARDED = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9.]+)(?::[0-9]+)?|([0-9A-Fa-f:.]+)")
METRICS = "PROMETHEUS_MULTIPROC_DIR"
METRICS_PREFIX = "wsgi-store-metrics-"
MINUTE = 60.0


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's messages and an access line per request, in the one log."""

    def setup(self, cfg: Any) -> None:
        """Route gunicorn's loggers; called in the master and after a reload."""
        if refusal := unheeded(cfg):
            raise RuntimeError(refusal)  # on a reload gunicorn logs it, and goes on as before
        if self.logfile is not None:  # what gunicorn captured the output with before the reload
            self.logfile.close()
        super().setup(cfg)
        config = Config.from_env()
        for output, path in ((logs.main, cfg.errorlog), (logs.access, cfg.accesslog)):
            output.open(None if path in (None, "-") else path, (cfg.uid, cfg.gid))
        logs.configure(config.log_level, config.log_format)
        self._access_log = AccessLog(config.log_level, config.log_format)
        for log in (self.error_log, self.access_log):
            for handler in log.handlers:
                handler.close()
        self.error_log.handlers = [logs.Intercept()]
        self.access_log.handlers = []
        # Some of gunicorn's modules, and libraries, have loggers of their own.
        logging.getLogger().handlers = [logs.Intercept()]

    def reopen_files(self) -> None:
        """Go on in new files after a rotation (SIGUSR1)."""
        super().reopen_files()
        for output in (logs.main, logs.access):
            try:
                output.reopen()
            except OSError as error:
                self.error("cannot open a log file anew, and go on with the old one: %s", error)

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log a request that was answered, or whose answer was cut off."""
        sent = _bytes_sent(resp, environ)
        if count := environ.get("wsgi_store.sent"):
            count(sent)
        if self._access_log.enabled and self.access_log_enabled:
            status = str(resp.status).partition(" ")[0]
            client = client_address(environ, self.cfg)
            seconds = request_time.total_seconds()
            done = Exchange(client, req.method, shown_path(req), status, sent, seconds)
            self._access_log.write(done, environ.get(NOTE) or Note())


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


def shown_path(req: Any) -> str:
    """The path of a request as a log may show it."""
    # The query is not shown: it may hold the signature of a link or a ticket. Before a path there may be
    # a host (RFC 9112 section 3.2.2), and before that a password.
    shown = str(req.uri or "").partition("?")[0]
    return shown if shown.startswith("/") else str(req.path or "")


@lru_cache(1024)
def is_trusted(settings: Any, address: str) -> bool:
    """Whether a proxy at this address may say for whom it asks: gunicorn's `forwarded_allow_ips`.

    gunicorn reads the address anew for each request, which takes as long as reading its head.
    """
    allowed, networks = settings.forwarded_allow_ips, settings.forwarded_allow_networks()
    return bool(message._ip_in_allow_list(address, allowed, networks))  # pylint: disable=protected-access


def client_address(environ: dict[str, Any], settings: Any) -> str:
    """Who asks: the last on the way that is no trusted proxy; what is told of those before may be a lie."""
    address = str(environ.get("REMOTE_ADDR", ""))
    for told in reversed(environ.get("HTTP_X_FORWARDED_FOR", "").split(",")):
        # Behind a Unix socket, which has no address, is a proxy.
        trusted = not address or is_trusted(settings, address)
        if not trusted or (match := FORWARDED.fullmatch(told.strip())) is None:
            break
        try:
            address = str(ip_address(match[1] or match[2] or match[3]))
        except ValueError:
            break
        if "*" in settings.forwarded_allow_ips:
            break  # how many proxies there are nobody said: the nearest one is believed
    return address


def _bytes_sent(resp: Any, environ: dict[str, Any]) -> int:
    """The bytes of the body that went out; gunicorn itself counts none of those of sendfile(2)."""
    reader = environ.get("wsgi_store.reader")
    if resp.sent or reader is None or resp.response_length is None:
        return int(resp.sent)
    if sys.exc_info()[0] is None:
        return int(resp.response_length)
    # socket.sendfile leaves the file where it stopped when it fails.
    position: int = reader.tell() - reader.start
    return position


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
            from wsgi_store.app import Application  # pylint: disable=import-outside-toplevel

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


def processors(proc: str = "/proc/self/cgroup", mounts: str = "/sys/fs/cgroup") -> int:
    """The processors this process may use at once, by affinity and by cgroup quota (cgroups(7))."""
    if hasattr(os, "sched_getaffinity"):
        available = len(os.sched_getaffinity(0))
    else:
        available = os.cpu_count() or 1
    return math.ceil(min([available, *_quotas(Path(proc), Path(mounts))]))


def _quotas(proc: Path, mounts: Path) -> Iterator[float]:
    """The quotas of this process's cgroup and of those around it: the least one holds."""
    try:
        lines = proc.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        # Version 1 has a hierarchy for each set of controllers, version 2 one that names none.
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container the path may be that of the host, which cannot be seen from inside:
        # the container's own group is then the top.
        group = Path(posixpath.normpath(path).lstrip("/"))
        for directory in (group, *group.parents):
            yield _quota(mounts / controllers / directory)


def _quota(directory: Path) -> float:
    """The processors a cgroup allows, infinity without a limit."""
    try:
        limit, period = (directory / "cpu.max").read_text(encoding="ascii").split()
    except OSError:
        try:
            limit = (directory / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (directory / "cpu.cfs_period_us").read_text(encoding="ascii")
        except OSError:
            return math.inf
    return math.inf if limit == "max" or int(limit) < 0 else int(limit) / int(period)

"""The first lines of a server's log: what it serves, to whom, and doubtful settings."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from wsgi_store.config import PREFIX, Config
from wsgi_store.logs import logger
from wsgi_store.version import __version__
from wsgi_store.web import uwsgi


# The processes that this one forks inherit it: gunicorn's master announces what its workers load.
_ANNOUNCED: set[Config] = set()


def announce(config: Config, log: Any = logger) -> None:
    """Write the summary and the warnings to `log`, unless this process or its parent has done so."""
    if config not in _ANNOUNCED:
        _ANNOUNCED.add(config)
        for line in summary(config):
            log.info(line)
        for line in warnings(config):
            log.warning(line)


def summary(config: Config) -> Iterator[str]:
    """Yield a line for what is served and one for who has access."""
    root = config.root if "://" in config.root else os.path.abspath(config.root)
    mode = "read-only" if config.read_only else f"durability {config.durability.value}"
    yield f"wsgi_store {__version__}: {root}, {config.hash.value}, {mode}"
    if config.tokens is None:
        scope = "read" if config.read_only else "read, write and delete"
        yield f"no tokens: everybody may {scope} everything"
        return
    others = ["signed links and tickets"] if config.signing_keys else []
    if config.public_read:
        others.append("anybody may read blobs")
    yield f"tokens of {os.path.abspath(config.tokens)}{''.join(f'; {other}' for other in others)}"


def warnings(config: Config, environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yield a line for each setting that probably does not do what it is meant to do."""
    if config.tokens is None and f"{PREFIX}TOKEN" in environ:
        yield f"{PREFIX}TOKEN is for clients: without {PREFIX}TOKENS this server requires no token"
    if f"{PREFIX}IDLE_TIMEOUT" in environ and uwsgi.module() is not None:
        yield f"{PREFIX}IDLE_TIMEOUT has no effect in uWSGI: set its socket-timeout"

"""The first lines of a server's log: what it serves, to whom, and doubtful settings."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wsgi_store.config import PREFIX, Config
from wsgi_store.digest import Algorithm
from wsgi_store.logs import logger
from wsgi_store.version import __version__
from wsgi_store.web import uwsgi

# The processes that this one forks inherit it: gunicorn's master announces what its workers load.
_ANNOUNCED: set[Config] = set()


def announce(config: Config, algorithms: Sequence[Algorithm], log: Any = logger) -> None:
    """Write the summary and the warnings to `log`, unless this process or its parent has done so.

    `algorithms` are those of the store, empty if it has not been reached yet.
    """
    if config not in _ANNOUNCED:
        _ANNOUNCED.add(config)
        for line in summary(config, algorithms):
            log.info(line)
        for line in warnings(config, algorithms):
            log.warning(line)


def summary(config: Config, algorithms: Sequence[Algorithm]) -> Iterator[str]:
    """Yield a line for what is served and one for who has access."""
    served = [config.root if "://" in config.root else os.path.abspath(config.root)]
    if algorithms:
        primary, *further = (algorithm.value for algorithm in algorithms)
        served.append(f"{primary} (further names: {', '.join(further)})" if further else primary)
    served.append("read-only" if config.read_only else f"durability {config.durability.value}")
    yield f"wsgi_store {__version__}: {', '.join(served)}"
    if config.tokens is None:
        scope = "read" if config.read_only else "read, write and delete"
        yield f"no tokens: everybody may {scope} everything"
        return
    others = ["signed links and tickets"] if config.signing_keys else []
    if config.public_read:
        others.append("anybody may read blobs")
    yield f"tokens of {os.path.abspath(config.tokens)}{''.join(f'; {other}' for other in others)}"


def warnings(
    config: Config, algorithms: Sequence[Algorithm], environ: Mapping[str, str] = os.environ
) -> Iterator[str]:
    """Yield a line for each setting that probably does not do what it is meant to do."""
    if config.hash is not None and algorithms and config.hash is not algorithms[0]:
        yield (
            f"{PREFIX}HASH={config.hash.value}: this store keeps {config.hash.value} only for further names, "
            f"and answers with {algorithms[0].value}: set {PREFIX}HASH={algorithms[0].value}"
        )
    if config.tokens is None and f"{PREFIX}TOKEN" in environ:
        yield f"{PREFIX}TOKEN is for clients: without {PREFIX}TOKENS this server requires no token"
    if f"{PREFIX}IDLE_TIMEOUT" in environ and uwsgi.module() is not None:
        yield f"{PREFIX}IDLE_TIMEOUT has no effect in uWSGI: set its socket-timeout"

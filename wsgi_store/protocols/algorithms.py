"""The algorithms without which a protocol cannot name a blob."""

from wsgi_store.choices import Protocol
from wsgi_store.digest import Algorithm
from wsgi_store.errors import ConfigError, Unsupported
from wsgi_store.store.contract import Store
from wsgi_store.web.backend import Backend


def require_at_start(backend: Backend, protocol: Protocol, algorithm: Algorithm) -> None:
    """Raise ConfigError if the store is a directory without such names."""
    # A bucket is not asked before the server has forked.
    if backend.paths is not None and algorithm not in backend.store.algorithms:
        raise ConfigError(f"WSGI_STORE_PROTOCOLS: {protocol.value}: {_lacking(algorithm)}")


def require(store: Store, algorithm: Algorithm) -> None:
    """Raise Unsupported if the store has no such names, and StoreUnavailable if that is not known."""
    # It may have got them at any time.
    if algorithm not in store.algorithms and algorithm not in store.refresh():
        raise Unsupported(_lacking(algorithm))


def _lacking(algorithm: Algorithm) -> str:
    return f"the store has no names by {algorithm.value} (WSGI_STORE_HASH, WSGI_STORE_NAMES)"

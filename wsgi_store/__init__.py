"""A content-addressed file store with an HTTP API."""

from importlib import import_module

TYPE_CHECKING = False  # as typing has it, whose import takes longer than all the rest of this
if TYPE_CHECKING:
    from wsgi_store import errors
    from wsgi_store.app import create_app
    from wsgi_store.auth import Signer
    from wsgi_store.client import Client
    from wsgi_store.config import Config
    from wsgi_store.grant import Grant
    from wsgi_store.stores import Blob, Store, open_store

__version__ = "0.1.0"
__all__ = ["Blob", "Client", "Config", "Grant", "Signer", "Store", "create_app", "errors", "open_store"]

# Loaded when it is asked for: a client needs no server, and the version neither.
_PLACES = {
    "create_app": "app",
    "Grant": "grant",
    "Signer": "auth",
    "Client": "client",
    "Config": "config",
    "Blob": "stores",
    "Store": "stores",
    "open_store": "stores",
}


def __getattr__(name: str) -> object:
    if name == "errors":
        return import_module("wsgi_store.errors")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"wsgi_store.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

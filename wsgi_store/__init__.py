"""A content-addressed file store with an HTTP API."""

from importlib import import_module

TYPE_CHECKING = False  # as in typing, which is slow to import
if TYPE_CHECKING:
    from wsgi_store import errors
    from wsgi_store.access.grant import Grant
    from wsgi_store.access.signing import Signer
    from wsgi_store.assembly import create_app
    from wsgi_store.client import Client
    from wsgi_store.config import Config
    from wsgi_store.store.contract import Blob, Store
    from wsgi_store.store.open import open_store

    __version__: str

__all__ = ["Blob", "Client", "Config", "Grant", "Signer", "Store", "create_app", "errors", "open_store"]

# Loaded on first use: neither the client nor the version needs the server.
_PLACES = {
    "__version__": "version",
    "create_app": "assembly",
    "Grant": "access.grant",
    "Signer": "access.signing",
    "Client": "client",
    "Config": "config",
    "Blob": "store.contract",
    "Store": "store.contract",
    "open_store": "store.open",
}


if not TYPE_CHECKING:  # it would make mypy accept any name

    def __getattr__(name: str) -> object:
        if name == "errors":
            return import_module("wsgi_store.errors")
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"wsgi_store.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

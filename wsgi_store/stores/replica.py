"""Stores that are read and never written: on a read-only disk, or from a copy that others keep."""

from typing import Any

from wsgi_store.errors import ReadOnly, StoreUnavailable, WrongStore, disk_errors
from wsgi_store.stores import marker
from wsgi_store.stores.ground import require_directories
from wsgi_store.stores.local import LocalStore


class Replica:
    """Goes before a kind of store, and refuses what would write to it."""

    read_only = True

    # Not NoReturn: pylint would take that for what every kind of store does.
    def add(self, *_: Any, **__: Any) -> Any:
        """Refuse: raises ReadOnly."""
        raise ReadOnly

    remove = expire = quarantine = discard = update_note = add


class LocalReplica(Replica, LocalStore):
    """A store in a directory in which nothing is made or changed."""

    def check(self) -> None:
        """Raise StoreUnavailable unless the store is there and can be read; raises WrongStore."""
        with disk_errors("cannot read the store"):
            if not marker.check(self.root, self.algorithm):
                raise StoreUnavailable("the store's directory is not there")

    def _prepare(self) -> None:
        if not marker.check(self.root, self.algorithm):
            raise WrongStore(f"there is no store at {self.root}, and WSGI_STORE_READ_ONLY lets none be made")
        require_directories(self.root)

"""Refusing to write to a store that is only read."""

from typing import Any

from wsgi_store.errors import ReadOnly


class Replica:
    """Goes before a kind of store, and refuses what would write to it."""

    read_only = True

    # Not NoReturn: pylint would take that for what every kind of store does.
    def add(self, *_: Any, **__: Any) -> Any:
        """Refuse: raises ReadOnly."""
        raise ReadOnly

    remove = expire = quarantine = discard = update_note = add

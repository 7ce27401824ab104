"""Stores that are only read."""

from typing import Any

from wsgi_store.errors import ReadOnly


class Replica:
    """A mixin in front of a kind of store that refuses every write."""

    read_only = True

    # Not NoReturn: pylint would infer that of every kind of store.
    def add(self, *_: Any, **__: Any) -> Any:
        """Refuse: raises ReadOnly."""
        raise ReadOnly

    add_all = remove = renew = renew_all = expire = quarantine = discard = update_note = keep_pieces = add
    change_marker = adopt = give_names = remove_link = settle_names = add

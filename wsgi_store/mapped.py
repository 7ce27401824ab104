"""Foreign exceptions, translated at a seam to those of this package."""

from collections.abc import Mapping

from wsgi_store.errors import WSGIStoreError

# A class and not a generator with @contextmanager, which is slower: this wraps every system call.


class mapped:  # pylint: disable=invalid-name  # used like a function
    """Translate foreign exceptions at a seam, by the first row of `table` that fits.

    Their own messages are dropped: those show classes and internals of servers and libraries.
    """

    __slots__ = ("_message", "_table")

    def __init__(self, table: Mapping[type[Exception], type[WSGIStoreError]], message: str) -> None:
        self._table = table
        self._message = message

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            for foreign, ours in self._table.items():
                if isinstance(error, foreign):
                    raise ours(self._message) from error

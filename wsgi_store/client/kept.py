"""The algorithms by which a server names its blobs."""

from collections.abc import Iterable
from threading import Lock

from wsgi_store.client.transport import Transport
from wsgi_store.digest import Algorithm, Digest, parse_any


class Kept:
    """The algorithms of a server's names, the primary one first; safe to use by many threads.

    The server is asked when they are first needed, and again when an answer differs from them: it
    may have been migrated, have got or dropped further names, or have been replaced by another one.
    """

    def __init__(self, transport: Transport) -> None:
        self.puts = True
        """Whether the server takes PUT, as far as is known."""
        self.resumes = True
        """Whether the server keeps uploads that break off, as far as is known."""
        self._transport = transport
        self._known: tuple[Algorithm, ...] = ()
        self._lock = Lock()

    def algorithms(self) -> tuple[Algorithm, ...]:
        """Return them; raises what asking the server raises, and UnexpectedAnswer."""
        with self._lock:
            if not self._known:
                self._known = self._ask()
            return self._known

    def _ask(self) -> tuple[Algorithm, ...]:
        told = self._transport.ask("GET", "")
        self.puts = self.resumes = "names" in told  # version 0.1.0 has none of them
        names = told.get("names", [])
        if not isinstance(names, list):
            raise self._transport.strange()
        try:
            primary = Algorithm(told.get("algorithm"))
        except ValueError:
            raise self._transport.strange() from None
        return primary, *(one for one in Algorithm if one.value in names)

    def forget(self) -> None:
        """Ask the server again when they are next needed."""
        with self._lock:
            self._known = ()

    def compare(self, names: Iterable[str], primary: object = None) -> None:
        """Forget them if an answer has a name by another algorithm, or another primary algorithm."""
        with self._lock:
            known = [one.value for one in self._known]
            if not known or (primary or known[0]) != known[0] or not set(names) <= set(known):
                self._known = ()

    def find(self, hash_: str) -> Digest:
        """Return a hash as a digest by whichever of them has hashes of its length.

        Raises ValueError, which names them, if none has, even when the server is asked again.
        """
        try:
            return parse_any(self.algorithms(), hash_)
        except ValueError:
            self.forget()
            return parse_any(self.algorithms(), hash_)

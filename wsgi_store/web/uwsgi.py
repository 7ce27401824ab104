"""What only uWSGI does: its module, chunked bodies, timeouts and routers."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def serves(environ: "WSGIEnvironment") -> bool:
    """Whether uWSGI serves this request."""
    return "uwsgi.version" in environ


def module() -> Any:
    """Return the module that exists only inside a uWSGI process, else None."""
    try:
        import uwsgi  # pylint: disable=import-outside-toplevel
    except ImportError:
        return None
    return uwsgi


def has_threads() -> bool:
    """Whether threads of this process run while no request does; anywhere but under uWSGI they do."""
    uwsgi = module()
    return uwsgi is None or not {"threads", "enable-threads"}.isdisjoint(uwsgi.opt)


def router_hosts() -> list[str]:
    """The hosts on which uWSGI's HTTP routers listen; they are processes of their own."""
    uwsgi = module()
    hosts = []
    for option in ("http", "https", "https2"):
        value = uwsgi.opt.get(option, []) if uwsgi else []
        for text in value if isinstance(value, list) else [value]:
            address = os.fsdecode(text).partition(",")[0]
            hosts.append(address.rpartition(":")[0])
    return hosts


def chunked_reader() -> Callable[[int], bytes]:
    """Return a function that reads the next piece of a chunked body, b"" at its end.

    `wsgi.input` would read as empty. uWSGI takes a malformed chunk size for the end of the body, which
    cannot be detected here.
    """
    uwsgi = module()
    return timed(lambda _: uwsgi.chunked_read())


def timed(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Make `read` raise TimeoutError: uWSGI mentions its socket-timeout only in the text of an OSError."""

    def read_in_time(size: int) -> bytes:
        try:
            return read(size)
        except OSError as error:
            if "timeout" in str(error):
                raise TimeoutError(str(error)) from None
            raise

    return read_in_time

"""Threads that work ahead of a generator."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def pool_of(number: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of so many threads, for a generator, whose end does not wait for what they do.

    The garbage collector may end a generator anywhere, even in a function of `threading` that holds a lock:
    to wait for a thread there could take for ever.
    """
    pool = ThreadPoolExecutor(number, name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)

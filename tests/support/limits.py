"""Limits of what this process may use."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def limited(kind: int, value: int) -> Iterator[None]:
    """Lower a limit of this process."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@contextmanager
def no_more_descriptors(spare: int = 0) -> Iterator[None]:
    """Allow this process to open only this many more files."""
    held = [os.dup(0) for _ in range(64)]  # fills the gaps between the descriptors in use
    for fd in held[:spare]:
        os.close(fd)
    try:
        with limited(resource.RLIMIT_NOFILE, held[-1] + 1):
            yield
    finally:
        for fd in held[spare:]:
            os.close(fd)

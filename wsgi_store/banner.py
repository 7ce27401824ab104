"""What a server says of itself when it starts."""

import os
from collections.abc import Iterator, Mapping

from wsgi_store.config import PREFIX, Config
from wsgi_store.version import __version__


def said(config: Config) -> Iterator[str]:
    """What is served, and who may do what, each in a line."""
    root = config.root if "://" in config.root else os.path.abspath(config.root)
    kept = "read-only" if config.read_only else f"durability {config.durability.value}"
    yield f"wsgi_store {__version__}: {root}, {config.hash.value}, {kept}"
    if config.tokens is None:
        yield f"everybody may {'read' if config.read_only else 'read, write and delete'} everything"
        return
    others = ["signed links and tickets"] if config.signing_keys else []
    if config.public_read:
        others.append("blobs are read without one")
    yield f"tokens of {os.path.abspath(config.tokens)}{''.join(f'; {other}' for other in others)}"


def doubts(config: Config, environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """What is probably not meant so."""
    if config.tokens is None and f"{PREFIX}TOKEN" in environ:
        yield f"{PREFIX}TOKEN is a client's: this server asks nobody for a token without {PREFIX}TOKENS"

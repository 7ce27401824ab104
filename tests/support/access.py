"""Tokens, links and tickets for tests, and services that ask for them."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from webtest import TestApp

from wsgi_store.assembly import create_app
from wsgi_store.config import Config

KEY = "a-key-of-enough-length"
HELLO = hashlib.sha256(b"hello").hexdigest()
ALL = "read,write,delete,list,link,admin"

Make = Callable[..., TestApp]


def line(token: str, scopes: str, name: str = "someone") -> str:
    """A line of a token file."""
    return f"{name} {scopes} {hashlib.sha256(token.encode()).hexdigest()}\n"


def bearer(token: str) -> dict[str, str]:
    """The header field with a token."""
    return {"Authorization": f"Bearer {token}"}


def soon() -> int:
    """An expiry later than the end of the test."""
    return int(time.time()) + 600


def maker(config: Config, path: Path) -> Make:
    """Makes services with the given tokens, of which `all` may do everything."""

    def make(lines: str = "", **settings: Any) -> TestApp:
        path.write_text(line("all", ALL) + lines, encoding="utf-8")
        keys = settings.pop("signing_keys", (KEY,))
        return TestApp(create_app(replace(config, tokens=str(path), signing_keys=keys, **settings)))

    return make


def code(response: Any) -> str:
    """The code of a problem."""
    return str(response.json["code"])

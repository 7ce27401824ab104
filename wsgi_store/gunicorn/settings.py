"""The settings that a worker uses: gunicorn's, and those of the service."""

import os
from typing import Any

from wsgi_store.config import Config
from wsgi_store.gunicorn.proxies import TrustedProxies


class Settings:
    """gunicorn's settings, each looked up once, and those of the service.

    gunicorn resolves a setting through a table and a method call each time, about 20 times a request.
    """

    is_ssl: bool
    protocol: str
    keepalive: int
    threads: int

    def __init__(self, settings: Any, service: Config) -> None:
        self._settings = settings
        self.service = service
        self.trusted_proxies = TrustedProxies(settings)
        # gunicorn's own variable for the path under which the service is mounted.
        self.script_name = os.environ.get("SCRIPT_NAME", "")
        # With TLS or the uwsgi protocol the bytes in a socket are not the head itself.
        self.is_plain_http = self.protocol == "http" and not self.is_ssl

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._settings, name)
        setattr(self, name, value)
        return value

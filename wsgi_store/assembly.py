"""Putting the service together."""

from wsgi_store.access.grant import Authorize
from wsgi_store.config import Config
from wsgi_store.web.application import Application


def create_app(config: Config | None = None, authorize: Authorize | None = None) -> Application:
    """Put a service together; raises ConfigError and StoreError when it cannot be opened.

    `authorize` decides from a request's environ what the caller may do, instead of the
    settings; it may raise Unauthenticated and Denied.
    """
    return Application(config or Config(), authorize)

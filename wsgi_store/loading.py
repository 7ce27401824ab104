"""Loads the application of a server from the environment."""

import sys
from collections.abc import Callable

from wsgi_store import logs
from wsgi_store.banner import announce
from wsgi_store.config import Config
from wsgi_store.errors import WSGIStoreError
from wsgi_store.web.application import Application

# gunicorn restarts a worker that exits with any other status, for ever.
APP_LOAD_ERROR = 4


def load(create: Callable[[Config], Application]) -> Application:
    """Return an application that is configured by the environment; exits with one line if that fails."""
    try:
        config = Config.from_env()
        logs.configure(config.log_level, config.log_format)
        application = create(config)
        # A request to a bucket may start threads, which a server that forks its workers must not have here.
        announce(config, () if "://" in config.root else application.store.algorithms)
    except WSGIStoreError as error:
        print(f"wsgi-store: {error}", file=sys.stderr)
        sys.exit(APP_LOAD_ERROR)
    return application

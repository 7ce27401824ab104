"""The application a server loads, told by the environment: `wsgi_store.wsgi:application`."""

import sys

from wsgi_store import logs
from wsgi_store.app import create_app
from wsgi_store.config import Config
from wsgi_store.errors import WSGIStoreError

# gunicorn starts a worker anew for ever, whatever it died of, except of this status.
APP_LOAD_ERROR = 4

try:
    _config = Config.from_env()
    logs.configure(_config.log_level, _config.log_format)
    application = create_app(_config)
except WSGIStoreError as error:
    print(f"wsgi-store: {error}", file=sys.stderr)
    sys.exit(APP_LOAD_ERROR)

"""The application a server loads, told by the environment: `wsgi_store.wsgi:application`."""

import sys

from wsgi_store import logs
from wsgi_store.app import Application
from wsgi_store.browsers import KnownHosts
from wsgi_store.config import Config
from wsgi_store.errors import WSGIStoreError

# gunicorn starts a worker anew for ever, whatever it died of, except of this status.
APP_LOAD_ERROR = 4

try:
    _config = Config.from_env()
    logs.configure(_config.log_level, _config.log_format)
    # Who asks for tokens need not know under which name.
    application = Application(_config, check_host=None if _config.tokens else KnownHosts(_config.hosts))
except WSGIStoreError as error:
    print(f"wsgi-store: {error}", file=sys.stderr)
    sys.exit(APP_LOAD_ERROR)

"""The application configured by the environment, for any WSGI server: `wsgi_store.wsgi:application`."""

import sys

from wsgi_store import logs
from wsgi_store.assembly import create_server_app
from wsgi_store.banner import announce
from wsgi_store.config import Config
from wsgi_store.errors import WSGIStoreError

# gunicorn restarts a worker that exits with any other status, for ever.
APP_LOAD_ERROR = 4

try:
    _config = Config.from_env()
    logs.configure(_config.log_level, _config.log_format)
    application = create_server_app(_config)
    # A request to a bucket may start threads, which a server that forks its workers must not have here.
    announce(_config, () if "://" in _config.root else application.store.algorithms)
except WSGIStoreError as error:
    print(f"wsgi-store: {error}", file=sys.stderr)
    sys.exit(APP_LOAD_ERROR)

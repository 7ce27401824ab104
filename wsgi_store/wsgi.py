"""The application a server loads, told by the environment: `wsgi_store.wsgi:application`."""

import os
import sys

from wsgi_store import logs
from wsgi_store.banner import doubts, said
from wsgi_store.config import Config
from wsgi_store.errors import WSGIStoreError
from wsgi_store.web.access_log import AccessLog
from wsgi_store.web.application import Application
from wsgi_store.web.origins import KnownHosts

# gunicorn starts a worker anew for ever, whatever it died of, except of this status.
APP_LOAD_ERROR = 4

try:
    _config = Config.from_env()
    logs.configure(_config.log_level, _config.log_format)
    application = Application(
        _config,
        # Who asks for tokens need not know under which name.
        check_host=None if _config.tokens else KnownHosts(_config.hosts),
        access_log=AccessLog(_config.log_level, _config.log_format),
    )
    if "uwsgi" in sys.modules and "WSGI_STORE_IDLE_TIMEOUT" in os.environ:
        logs.logger.warning("WSGI_STORE_IDLE_TIMEOUT means nothing under this server: set its socket-timeout")
    # Under gunicorn with the settings that come with this package its master has said it.
    if "wsgi_store.gunicorn.conf" not in sys.modules:
        for line in said(_config):
            logs.logger.info("{}", line)
        for line in doubts(_config):
            logs.logger.warning("{}", line)
except WSGIStoreError as error:
    print(f"wsgi-store: {error}", file=sys.stderr)
    sys.exit(APP_LOAD_ERROR)

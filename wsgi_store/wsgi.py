"""The application a server loads, told by the environment: `wsgi_store.wsgi:application`."""

from wsgi_store import logs
from wsgi_store.app import create_app
from wsgi_store.config import Config
from wsgi_store.errors import WSGIStoreError

try:
    _config = Config.from_env()
    logs.configure(_config.log_level, _config.log_format)
    application = create_app(_config)
except WSGIStoreError as error:
    raise SystemExit(f"wsgi-store: {error}") from None

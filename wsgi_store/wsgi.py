"""The application configured by the environment, for any WSGI server: `wsgi_store.wsgi:application`."""

from wsgi_store.assembly import create_server_app
from wsgi_store.loading import load

application = load(create_server_app)

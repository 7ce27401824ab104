"""Without receiving bodies into buffers: gunicorn's own readers, each read new bytes."""

# pylint: disable=wildcard-import,unused-wildcard-import
from gunicorn.http import body

from wsgi_store.gunicorn import request
from wsgi_store.gunicorn.body import Body
from wsgi_store.gunicorn.conf import *  # noqa: F401, F403

request.LengthReader = body.LengthReader
request.ChunkedReader = body.ChunkedReader
del Body.readinto

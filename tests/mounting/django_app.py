"""A store under /blobs of a Django project: what is below `# wsgi.py` goes into that file.

python tests/mounting/django_app.py 8000
curl --data-binary @README.md http://127.0.0.1:8000/blobs/
"""

import sys
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import run_simple

from wsgi_store.app import create_app
from wsgi_store.config import Config

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def home(_: HttpRequest) -> HttpResponse:
    """A view of the host."""
    return HttpResponse("the host application\n")


urlpatterns = [path("", home)]
if not settings.configured:
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None)


# wsgi.py
def make_app(root: str) -> "WSGIApplication":
    """The host application, with the blobs of `root`."""
    store = create_app(Config(root=root))
    # In front of Django: its middleware reads no upload and buffers no download.
    return DispatcherMiddleware(get_wsgi_application(), {"/blobs": store})


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), make_app("./store"), threaded=True)

"""A store under /blobs of a Pyramid application, as a view: permissions of the host apply.

python examples/pyramid_app.py 8000
curl --data-binary @README.md http://127.0.0.1:8000/blobs/
"""

import sys
from typing import TYPE_CHECKING

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from werkzeug.serving import run_simple

from wsgi_store import Config, create_app

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def home(_: Request) -> Response:
    """A view of the host."""
    return Response("the host application\n")


def make_app(root: str) -> "WSGIApplication":
    """The host application, with the blobs of `root`."""
    store = create_app(Config(root=root))

    # Not pyramid.wsgi.wsgiapp2: it copies the whole body of a request aside first.
    def blobs(request: Request) -> Response:
        request.path_info_pop()
        return request.get_response(store)

    configurator = Configurator()
    configurator.add_route("home", "/")
    configurator.add_view(home, route_name="home")
    for name, pattern in (("blobs", "/blobs"), ("blob", "/blobs/*path")):
        configurator.add_route(name, pattern)
        configurator.add_view(blobs, route_name=name)
    application: WSGIApplication = configurator.make_wsgi_app()
    return application


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), make_app("./store"), threaded=True)

"""Third-party servers, given nothing but an address: `python tests/support/foreign.py NAME PORT`."""

# pylint: disable=import-outside-toplevel  # each is loaded alone, as by those who use it

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

NAME = "wsgi_store.wsgi:application"


def cheroot(application: "WSGIApplication", port: int) -> None:
    """CherryPy's server."""
    from cheroot.wsgi import Server

    Server(("127.0.0.1", port), application, server_name="localhost").start()


def gevent(application: "WSGIApplication", port: int) -> None:
    """gevent's server, which needs monkey patching first."""
    from gevent.pywsgi import WSGIServer

    WSGIServer(("127.0.0.1", port), application).serve_forever()


def waitress(application: "WSGIApplication", port: int) -> None:
    """The Pylons project's server."""
    from waitress import serve

    serve(application, listen=f"127.0.0.1:{port}")


def werkzeug(application: "WSGIApplication", port: int) -> None:
    """The server of `flask run`."""
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", port, application, threaded=True)


def wsgiref(application: "WSGIApplication", port: int) -> None:
    """The server of the standard library, and of Django's runserver."""
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", port, application).serve_forever()


def tornado(application: "WSGIApplication", port: int) -> None:
    """Tornado's WSGI container, with threads."""
    from tornado.httpserver import HTTPServer
    from tornado.wsgi import WSGIContainer

    async def main() -> None:
        container = WSGIContainer(application, ThreadPoolExecutor(8))
        HTTPServer(container, max_body_size=1 << 30).listen(port, "127.0.0.1")
        await asyncio.Event().wait()

    asyncio.run(main())


def uvicorn(application: "WSGIApplication", port: int) -> None:
    """uvicorn, through a2wsgi."""
    import uvicorn as server
    from a2wsgi import WSGIMiddleware

    server.run(WSGIMiddleware(application), host="127.0.0.1", port=port)  # type: ignore[arg-type]


def hypercorn(application: "WSGIApplication", port: int) -> None:
    """hypercorn's own WSGI middleware."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from hypercorn.middleware import AsyncioWSGIMiddleware

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    middleware = AsyncioWSGIMiddleware(application, max_body_size=1 << 30)
    asyncio.run(serve(middleware, config))  # type: ignore[arg-type]


def granian(_: "WSGIApplication", port: int) -> None:
    """granian, whose worker imports the application itself."""
    from granian import Granian
    from granian.constants import Interfaces

    Granian(NAME, "127.0.0.1", port, interface=Interfaces.WSGI).serve()


SERVERS = {
    function.__name__: function
    for function in (cheroot, gevent, waitress, werkzeug, wsgiref, tornado, uvicorn, hypercorn, granian)
}

if __name__ == "__main__":
    if sys.argv[1] == "gevent":
        from gevent.monkey import patch_all

        patch_all()
    from wsgi_store.wsgi import application as service

    SERVERS[sys.argv[1]](service, int(sys.argv[2]))

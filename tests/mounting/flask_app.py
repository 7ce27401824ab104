"""A store under /blobs of a Flask application.

python tests/mounting/flask_app.py 8000
curl --data-binary @README.md http://127.0.0.1:8000/blobs/
"""

import sys

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import run_simple

from wsgi_store.app import create_app
from wsgi_store.config import Config


def make_app(root: str) -> Flask:
    """The host application, with the blobs of `root`."""
    app = Flask(__name__)

    @app.get("/")
    def home() -> str:
        return "the host application\n"

    store = create_app(Config(root=root))
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/blobs": store})
    return app


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), make_app("./store"), threaded=True)

"""A store under /blobs of a Flask application, whose own views keep documents in it.

python tests/mounting/flask_app.py 8000
curl --data-binary @README.md http://127.0.0.1:8000/blobs/
curl -F file=@README.md http://127.0.0.1:8000/documents
"""

import sys
from typing import TYPE_CHECKING

from flask import Flask, Response, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import run_simple

from wsgi_store import Config, create_app, errors

if TYPE_CHECKING:
    from wsgi_store.web.response import Response as Answer


def make_app(root: str) -> Flask:
    """The host application, with the blobs of `root`."""
    app = Flask(__name__)

    @app.get("/")
    def home() -> str:
        return "the host application\n"

    store = create_app(Config(root=root))
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/blobs": store})
    documents: dict[str, tuple[str, str]] = {}  # stands for the host's database

    @app.post("/documents")
    def keep() -> tuple[dict[str, str], int]:
        upload = request.files["file"]
        receipt = store.receive(upload.stream, max_size=10 << 20)
        number = str(len(documents))
        documents[number] = (receipt.digest.hex, upload.filename or "")
        return {"url": f"/documents/{number}"}, 201

    @app.put("/documents/<number>")
    def replace(number: str) -> dict[str, bool]:
        receipt = store.receive(request.stream, length=request.content_length)
        documents[number] = (receipt.digest.hex, documents[number][1])
        return {"created": receipt.created}

    @app.get("/documents/<number>")
    def show(number: str) -> Response:
        hash_, filename = documents[number]
        return as_flask(store.send(request.environ, hash_, filename))

    @app.errorhandler(errors.WSGIStoreError)
    def fail(error: errors.WSGIStoreError) -> Response:
        return as_flask(store.problem(request.environ, error))

    return app


def as_flask(answer: "Answer") -> Response:
    """An answer of the store as one of Flask, whose body the server may send by itself."""
    return Response(answer.body, answer.status, answer.headers, direct_passthrough=True)


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), make_app("./store"), threaded=True)

"""A store under /blobs of a Flask application, whose own views keep documents in it.

python examples/flask_app.py 8000
curl --data-binary @README.md http://127.0.0.1:8000/blobs/
curl -F file=@README.md http://127.0.0.1:8000/documents
"""

import sys

from flask import Flask, Response, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import run_simple

from wsgi_store import Config, create_app, errors


def make_app(root: str) -> Flask:
    """The host application, with the blobs of `root`."""
    app = Flask(__name__)

    @app.get("/")
    def home() -> str:
        return "the host application\n"

    store = create_app(Config(root=root))
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/blobs": store})  # type: ignore[method-assign]
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
        answer = store.send(request.environ, hash_, filename)
        # The server may send the file itself.
        return Response(answer.body, answer.status, answer.headers, direct_passthrough=True)

    @app.errorhandler(errors.WSGIStoreError)
    def fail(error: errors.WSGIStoreError) -> Response:
        answer = store.problem(request.environ, error)
        return Response(answer.body, answer.status, answer.headers)

    return app


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), make_app("./store"), threaded=True)

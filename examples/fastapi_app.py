"""A store under /blobs of a FastAPI application, whose own routes keep documents in it.

python examples/fastapi_app.py 8000
curl --data-binary @README.md http://127.0.0.1:8000/blobs/
curl -F file=@README.md http://127.0.0.1:8000/documents
"""

import sys
from collections.abc import Iterator
from contextlib import closing

import uvicorn
from a2wsgi import WSGIMiddleware
from fastapi import FastAPI, Request, Response, UploadFile
from fastapi.responses import PlainTextResponse, StreamingResponse

from wsgi_store import Config, create_app, errors


def make_app(root: str) -> FastAPI:
    """The host application, with the blobs of `root`."""
    app = FastAPI()
    store = create_app(Config(root=root))
    app.mount("/blobs", WSGIMiddleware(store))  # type: ignore[arg-type]
    documents: dict[str, tuple[str, str]] = {}  # stands for the host's database

    @app.get("/", response_class=PlainTextResponse)
    def home() -> str:
        return "the host application\n"

    # Each `def`, not `async def`: threads may wait for a disk, the event loop may not.
    @app.post("/documents", status_code=201)
    def keep(file: UploadFile) -> dict[str, str]:
        receipt = store.receive(file.file, max_size=10 << 20)
        number = str(len(documents))
        documents[number] = (receipt.digest.hex, file.filename or "")
        return {"url": f"/documents/{number}"}

    @app.put("/documents/{number}")
    def replace(number: str, file: UploadFile) -> dict[str, bool]:
        receipt = store.receive(file.file, length=file.size)
        documents[number] = (receipt.digest.hex, documents[number][1])
        return {"created": receipt.created}

    @app.api_route("/documents/{number}", methods=["GET", "HEAD"])
    def show(number: str, request: Request) -> Response:
        hash_, filename = documents[number]
        answer = store.send(as_wsgi(request), hash_, filename)

        def chunks() -> Iterator[bytes]:
            with closing(answer):
                yield from answer.body

        return StreamingResponse(chunks(), int(answer.status[:3]), dict(answer.headers))

    @app.exception_handler(errors.WSGIStoreError)
    def fail(request: Request, error: errors.WSGIStoreError) -> Response:
        answer = store.problem(as_wsgi(request), error)
        return Response(b"".join(answer.body), int(answer.status[:3]), dict(answer.headers))

    return app


def as_wsgi(request: Request) -> dict[str, str]:
    """The method and the header fields of a request, as WSGI names them."""
    fields = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in request.headers.items()}
    return {"REQUEST_METHOD": request.method, **fields}


if __name__ == "__main__":
    uvicorn.run(make_app("./store"), host="127.0.0.1", port=int(sys.argv[1]))

"""A store under /blobs of a Django project, whose own views keep documents in it.

What is below `# wsgi.py` goes into that file.

python examples/django_app.py 8000
curl --data-binary @README.md http://127.0.0.1:8000/blobs/
curl -F file=@README.md http://127.0.0.1:8000/documents
"""

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import run_simple

from wsgi_store import Config, create_app, errors

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

documents: dict[str, tuple[str, str]] = {}  # stands for the host's database


def home(_: HttpRequest) -> HttpResponse:
    """A view of the host."""
    return HttpResponse("the host application\n")


def keep(request: HttpRequest) -> HttpResponseBase:
    """Store the file of a form."""
    upload = request.FILES["file"]
    assert isinstance(upload, UploadedFile)
    receipt = settings.STORE.receive(upload.chunks(), max_size=10 << 20)
    number = str(len(documents))
    documents[number] = (receipt.digest.hex, upload.name or "")
    return JsonResponse({"url": f"/documents/{number}"}, status=201)


def document(request: HttpRequest, number: str) -> HttpResponseBase:
    """Send a document, or put the body of a request in its place."""
    hash_, filename = documents[number]
    if request.method == "PUT":
        receipt = settings.STORE.receive(request, length=int(request.headers["Content-Length"]))
        documents[number] = (receipt.digest.hex, filename)
        return JsonResponse({"created": receipt.created})
    answer = settings.STORE.send(request.META, hash_, filename)
    return as_django(answer.body, answer.status, answer.headers)


class StoreProblems:
    """Middleware: what the store raises in a view becomes an answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        """Answer as the store would; anything else is Django's to answer."""
        if isinstance(error, errors.WSGIStoreError):
            answer = settings.STORE.problem(request.META, error)
            return as_django(answer.body, answer.status, answer.headers)
        return None


def as_django(body: Iterable[bytes], status: str, headers: list[tuple[str, str]]) -> HttpResponseBase:
    """An answer of the store as one of Django."""
    response = StreamingHttpResponse(body, status=int(status[:3]))
    del response["Content-Type"]
    for name, value in headers:
        response[name] = value
    return response


urlpatterns = [
    path("", home),
    path("documents", csrf_exempt(keep)),
    path("documents/<number>", csrf_exempt(document)),
]
if not settings.configured:
    middleware = [f"{__name__}.StoreProblems"]
    settings.configure(ROOT_URLCONF=__name__, MIDDLEWARE=middleware, ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None)


# wsgi.py
def make_app(root: str) -> "WSGIApplication":
    """The host application, with the blobs of `root`."""
    store = create_app(Config(root=root))
    settings.STORE = store
    # In front of Django: its middleware reads no upload and buffers no download.
    return DispatcherMiddleware(get_wsgi_application(), {"/blobs": store})


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), make_app("./store"), threaded=True)

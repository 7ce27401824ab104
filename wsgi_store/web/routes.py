"""The table of URLs."""

from wsgi_store.web import blobs, links, page, service, uploads
from wsgi_store.web.archive import archive
from wsgi_store.web.download import download
from wsgi_store.web.listing import list_files
from wsgi_store.web.missing import missing
from wsgi_store.web.request import Request
from wsgi_store.web.routing import HASH, NOWHERE, Custom, Route, Target

# Below it there are other fields in each response, whether there is a route or not.
UPLOADS = Custom(uploads.OF_UPLOADS, uploads.fields)
URLS = [
    Route("/", "GET", service.index, None),
    Route("/", "POST", blobs.upload, "write"),
    Route("/", "PUT", blobs.upload, "write"),
    Route("/files", "GET", list_files, "list"),
    Route("/missing", "POST", missing, "read"),
    Route("/archive", "POST", archive, "read"),
    Route("/links", "POST", links.create, "link"),
    Route("/healthz", "GET", service.healthy, None),
    Route("/readyz", "GET", service.ready, None),
    Route("/openapi.json", "GET", service.openapi, None),
    Route("/page/<string:version>/<name:name>", "GET", page.file, None),
    Route("/metrics", "GET", service.metrics, "admin"),
    Route("/uploads", "POST", uploads.create, "write", custom=UPLOADS),
    Route("/uploads/<string:id_>", "GET", uploads.show, "write", True, UPLOADS),
    Route("/uploads/<string:id_>", "PATCH", uploads.append, "write", True, UPLOADS),
    Route("/uploads/<string:id_>", "DELETE", uploads.remove, "write", True, UPLOADS),
    Route("/<hash:hash_>", "GET", download, "read"),
    Route("/<hash:hash_>", "PUT", blobs.put, "write"),
    Route("/<hash:hash_>", "DELETE", blobs.delete, "delete"),
    Route("/<hash:hash_>/<name:filename>", "GET", download, "read"),
    Route("/<hash:hash_>/<name:filename>", "PUT", blobs.put, "write"),
    # `curl -T FILE URL/` adds the name of the file.
    Route("/<segment:filename>", "PUT", blobs.upload, "write"),
]
# The files of the page, which can be off.
PAGE = "/page/"
UPLOAD_OPTIONS = Route("/uploads", "OPTIONS", uploads.options, None)


def aim(request: Request) -> Target:
    """Return what a request to this API is for; raises what reading its query raises."""
    path = request.path
    method = request.environ["REQUEST_METHOD"]
    # `/?hash=H&filename=F` means `/H/F`; in an upload `hash` is a condition.
    if path == "/" and method not in ("POST", "PUT") and "hash" in request.args:
        hash_, name = request.args["hash"], request.args.get("filename")
        path = f"/{hash_}" if HASH.fullmatch(hash_) else NOWHERE
        named = {"filename": name} if name and method in ("GET", "HEAD") else {}
        return Target(path, named, frozenset({"OPTIONS", "POST", "PUT"}))
    if path == "/" and method == "POST" and uploads.is_upgrade(request):
        return Target("/uploads")
    if not request.config.page and path.startswith(PAGE):
        return Target(NOWHERE)
    if method == "OPTIONS" and (uploads.OF_UPLOADS.match(path) or (path == "/" and request.config.interim)):
        return Target(path, options=UPLOAD_OPTIONS)
    return Target(path)

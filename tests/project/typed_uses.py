"""Uses of the package, right and wrong; mypy --strict must report the lines with `# error: CODE`."""

# pylint: skip-file
# flake8: noqa
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wsgi_store
from wsgi_store import Blob, Client, Config, Grant, Signer, Store, create_app, errors, open_store
from wsgi_store.digest import Algorithm

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

from wsgi_store.wsgi import application as served

version: str = wsgi_store.__version__
application: "WSGIApplication" = served


def settings() -> Config:
    Config(root=Path("/srv/store"))  # error: arg-type
    Config(max_size="10GiB")  # error: arg-type
    Config("/srv/store")  # error: call-arg
    Config(size=1)  # error: call-arg
    config = Config.from_env({"WSGI_STORE_ROOT": "/srv/store", "WSGI_STORE_HASH": "sha256"})
    config.root = "/elsewhere"  # error: misc
    algorithm: Algorithm = config.hash  # error: assignment
    names: tuple[Algorithm, ...] | None = config.names
    limit: int = config.max_size  # error: assignment
    return Config(root="/srv/store", hash=algorithm, max_size=10 << 30, cors_origins=("https://a.example",))


def authorize(environ: Mapping[str, Any]) -> Grant:
    if "HTTP_AUTHORIZATION" not in environ:
        raise errors.Unauthenticated("say who you are")
    return Grant(frozenset({"read", "write"}), name="somebody", max_size=1 << 20)


def no_grant(environ: Mapping[str, Any]) -> bool:
    return True


def mounted(environ: "WSGIEnvironment") -> "WSGIApplication":
    host = create_app(Config(root="/srv/store"), authorize)
    create_app("/srv/store")  # error: arg-type
    create_app(settings(), no_grant)  # error: arg-type
    receipt = host.receive([b"a", memoryview(b"b")], length=2, hash_="0" * 64, max_size=1)
    host.receive("text")  # error: arg-type
    host.receive(b"bytes", 5)  # error: call-arg
    hash_: str = receipt.digest.hex
    created: bool = receipt.created
    size: str = receipt.size  # error: assignment
    receipt.hash  # error: attr-defined
    try:
        answer = host.send(environ, hash_, "a.txt")
        status: str = answer.status
        headers: list[tuple[str, str]] = answer.headers
        pieces: Iterator[bytes] = iter(answer.body)
        return answer
    except errors.BlobNotFound as error:
        code: str = error.code
        return host.problem(environ, error)
    except OSError as error:
        return host.problem(environ, error)  # error: arg-type


def transfer(url: str) -> None:
    with Client(url, token=None, timeout=5.0) as client:
        blob = client.put(Path("file"))
        text: str = blob.url
        name: str = blob.names["sha256"]
        ambiguous: tuple[str, ...] = blob.ambiguous
        blob.names["md5"] = name  # error: index
        kept: tuple[Algorithm, ...] = client.algorithms
        client.put(b"bytes", hash_=name)
        client.put(5)  # error: arg-type
        with client.open(blob.hash) as download:
            data: bytes = download.read(10)
            line: str = download.readline()  # error: assignment
        client.get(blob.hash, "copy", force=True)
        client.get(blob.hash)  # error: call-arg
        for listed in client.list(limit=10):
            number: int = listed.size
            listed.created  # error: attr-defined
        known: bool = client.exists(blob)  # error: arg-type
        removed: Mapping[str, str] = client.delete(name)
        for sent in client.put_many([Path("a"), Path("b")], jobs=2, opener=lambda path: path.stat().st_uid):
            path: Path = sent.source
            sent.outcome.hash  # error: union-attr
            text = sent.outcome.hash if not isinstance(sent.outcome, Exception) else ""
            modified: int = sent.status.st_mtime_ns  # error: union-attr
        client.put_many(5)  # error: arg-type
        lacking: list[str] = list(client.missing([name, (name, 5)], renew=True))
        client.missing()  # error: call-arg
        client.absent()  # error: attr-defined


def signed(hash_: str) -> tuple[str, str]:
    signer = Signer(["0123456789abcdef"])
    Signer("0123456789abcdef")  # error: arg-type
    signer.link(hash_)  # error: call-arg
    return signer.link(hash_, expires=1e9, filename="a.txt"), signer.ticket(expires=1e9, max_size=5)


def stored() -> Blob:
    store: Store = open_store("/srv/store")
    open_store("/srv/store", "md5")  # error: arg-type
    digest = store.algorithm.parse("0" * 64)
    with_reader = store.open(digest, 5, 10)
    data: bytes = b"".join(with_reader)
    with_reader.close()
    store.stat("0" * 64)  # error: arg-type
    found: list[Blob] = [blob for blob in store.iterate() if blob.size]
    found[0].size = 5  # error: misc
    return store.remove(digest)


wsgi_store.missing  # error: attr-defined

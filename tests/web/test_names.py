"""Blobs with names by several algorithms: each name works alike, whatever a request does."""

import base64
import hashlib
import itertools
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from tests.support import ceph
from tests.support.access import KEY, Make, bearer, code, line, soon
from tests.support.calling import Untouched, call, request
from tests.support.figures import Counting
from tests.support.kinds import BucketKind
from wsgi_store import errors
from wsgi_store.access.signing import Signer
from wsgi_store.assembly import create_app
from wsgi_store.choices import Sendfile
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.store.abilities import Adopted, Hashed, Names
from wsgi_store.store.open import open_store
from wsgi_store.testing.helpers import COLLIDING
from wsgi_store.web.application import Application
from wsgi_store.web.hashes import MAX_LOOK_UPS

DATA = b"hello, world\n" * 100
every_store = pytest.mark.every_store
KEPT = ("sha256", "md5", "sha1")
NAMES = {name: hashlib.new(name, DATA).hexdigest() for name in KEPT}
NONE = {name: "0" * 2 * hashlib.new(name).digest_size for name in KEPT}
UNKEPT = hashlib.sha512(DATA).hexdigest()
KEYS = {"sha256": "sha-256", "md5": "md5", "sha1": "sha"}


@pytest.fixture
def config(request: pytest.FixtureRequest, root: Path) -> Config:
    """Settings for an empty store whose blobs have three names, in a directory or a bucket."""
    names = {"hash": Algorithm.SHA256, "names": (Algorithm.MD5, Algorithm.SHA1)}
    if getattr(request, "param", None) == "bucket":
        ceph.ensure()
        return Config(root=BucketKind().url(root), s3_staging=str(root), min_free=0, **names)
    return Config(root=str(root), min_free=0, **names)


def by_another_process(config: Config) -> Names:
    """The same store, opened once more: what it changes the service has to find out."""
    store = open_store(config.root, remote=config.remote)
    assert isinstance(store, Names)
    return store


def begin_migration(config: Config) -> None:
    """Let the store leave md5, as another process does."""
    by_another_process(config).change_marker(partial(replace, migrating=Algorithm.MD5))


def digest_field(*names: str) -> str:
    """The value of Repr-Digest with these names of the data."""
    raw = {name: base64.b64encode(bytes.fromhex(NAMES[name])).decode() for name in names}
    return ", ".join(f"{KEYS[name]}=:{text}:" for name, text in raw.items())


def known(asked: str) -> tuple[str, ...]:
    """The algorithms of the names that an answer about the blob has, asked for by one of them."""
    return ("sha256",) if asked == "sha256" else ("sha256", asked)


@every_store
def test_an_upload_tells_every_name(api: TestApp) -> None:
    """The hash is the primary name; text and Location have it, too."""
    answer = api.post("/", DATA)
    assert answer.json == {
        "hash": NAMES["sha256"],
        "algorithm": "sha256",
        "names": NAMES,
        "size": len(DATA),
        "url": f"/{NAMES['sha256']}",
        "created": True,
    }
    assert list(answer.json["names"]) == list(KEPT)
    assert answer.headers["Location"] == answer.json["url"]
    assert api.post("/", DATA, headers={"Accept": "text/plain"}).text == f"{NAMES['sha256']}\n"
    assert api.post("/", DATA).json == answer.json | {"created": False}


@every_store
def test_the_index_tells_the_further_algorithms(api: TestApp, config: Config) -> None:
    """The index lists the further algorithms and, only then, the one that a migration leaves."""
    index = api.get("/").json
    assert (index["algorithm"], index["names"]) == ("sha256", ["md5", "sha1"])
    assert "migrating" not in index
    begin_migration(config)
    assert api.get("/").json == index | {"migrating": "md5"}


@every_store
@pytest.mark.parametrize("asked", KEPT)
@pytest.mark.parametrize("change", [str, str.upper])
def test_a_download_by_any_name(application: Application, asked: str, change: Any) -> None:
    """Whole, in part, in parts, by path or query: the ETag is the hash in the URL."""
    call(application, "POST", body=DATA)
    hash_ = NAMES[asked]
    for where in ({"path": f"/{change(hash_)}"}, {"query": f"hash={change(hash_)}"}):
        whole = call(application, **where)
        assert (whole.status, whole.body) == (200, DATA)
        assert whole.headers["ETag"] == f'"{hash_}"'
        assert whole.headers["Repr-Digest"] == digest_field(*known(asked))
        assert "immutable" in whole.headers["Cache-Control"]
        head = call(application, "HEAD", **where)
        assert {**head.headers, "X-Request-ID": ""} == {**whole.headers, "X-Request-ID": ""}
        part = call(application, HTTP_RANGE="bytes=7-11", HTTP_IF_RANGE=f'"{hash_}"', **where)
        assert (part.status, part.body) == (206, b"world")
        parts = call(application, HTTP_RANGE="bytes=0-0,-1", **where)
        assert (parts.status, parts.body.count(b"Content-Range: ")) == (206, 2)
        for answer in (part, parts):
            assert answer.headers["ETag"] == f'"{hash_}"'
            assert answer.headers["Repr-Digest"] == digest_field(*known(asked))


@every_store
@pytest.mark.parametrize("asked, named", [*itertools.product(KEPT, KEPT)])
def test_conditions_take_any_name(application: Application, asked: str, named: str) -> None:
    """Each condition is as true with another name of the blob as with the one in the URL."""
    call(application, "POST", body=DATA)
    path, tag = f"/{NAMES[asked]}", f'"{NAMES[named]}"'
    some = f'"0", "{NONE[named]}", {tag}'
    for value in (tag, some):
        assert call(application, path=path, HTTP_IF_MATCH=value).status == 200
        answer = call(application, path=path, HTTP_IF_NONE_MATCH=value)
        assert (answer.status, answer.headers["ETag"]) == (304, f'"{NAMES[asked]}"')
        assert set(answer.headers.keys()) == {"ETag", "Cache-Control", "X-Request-ID"}
    # Only If-None-Match compares weakly (RFC 9110 section 8.8.3.2).
    assert call(application, path=path, HTTP_IF_MATCH=f"W/{tag}").status == 412
    assert call(application, path=path, HTTP_IF_NONE_MATCH=f"W/{tag}").status == 304
    for value, status in ((tag, 206), (f"W/{tag}", 200), (NAMES[named], 200), (f'"{NONE[named]}"', 200)):
        assert call(application, path=path, HTTP_RANGE="bytes=0-0", HTTP_IF_RANGE=value).status == status
    assert call(application, path=path, HTTP_IF_NONE_MATCH=tag.upper()).status == (
        200 if tag != tag.upper() else 304
    )


@every_store
@pytest.mark.parametrize("asked, named", [*itertools.product(KEPT, KEPT)])
def test_a_deletion_by_any_name(application: Application, asked: str, named: str) -> None:
    """It removes the blob under the conditions, which may use another name, and tells the primary one."""
    call(application, "POST", body=DATA)
    call(application, "POST", body=b"another")
    another = f'"{hashlib.new(named, b"another").hexdigest()}"'
    path, tag = f"/{NAMES[asked]}", f'"{NAMES[named]}"'
    for field, value in (("MATCH", another), ("NONE_MATCH", tag), ("MATCH", f"W/{tag}")):
        assert call(application, "DELETE", path, **{f"HTTP_IF_{field}": value}).status == 412
    answer = call(application, "DELETE", path, HTTP_IF_MATCH=f"{another}, {tag}", HTTP_IF_NONE_MATCH=another)
    names = {name: NAMES[name] for name in known(asked)}
    assert answer.json == {"hash": NAMES["sha256"], "names": names, "size": len(DATA)}
    for hash_ in NAMES.values():
        for method in ("GET", "HEAD", "DELETE"):
            assert call(application, method, f"/{hash_}").status == 404
    assert [blob.size for blob in application.store.iterate()] == [7]


@pytest.mark.parametrize("field", ["HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"])
def test_few_tags_are_looked_up(config: Config, field: str) -> None:
    """However many tags a request has, it costs a handful of look-ups; the blob's own name costs none."""
    counting = Counting(config)
    counting.api.post("/", DATA)
    many = ", ".join(f'"{number:032x}"' for number in range(200))

    def looks(value: str) -> float:
        before = counting.grown("wsgi_store_operation_duration_seconds_count", operation="stat")
        call(counting.api.app, path=f"/{NAMES['sha256']}", **{field: value})
        return counting.grown("wsgi_store_operation_duration_seconds_count", operation="stat") - before

    assert looks(many) == 1 + MAX_LOOK_UPS
    assert looks(f'"{NAMES["sha256"]}", {many}') == 1
    assert looks("*") == 1


@every_store
@pytest.mark.parametrize("hash_", [UNKEPT, "0" * 33, "0" * 128])
def test_a_hash_that_is_not_kept(application: Application, hash_: str) -> None:
    """A path gets 404, a parameter 400 before the body is read; both tell what the store keeps."""
    for method in ("GET", "HEAD", "DELETE"):
        answer = call(application, method, f"/{hash_}")
        assert answer.status == 404
        if method != "HEAD":
            assert answer.json["code"] == "blob_not_found"
            assert answer.json["algorithms"] == list(KEPT)
            assert "sha256, md5 or sha1" in answer.json["detail"]
    for answer in (
        call(application, "POST", query=f"hash={hash_}", body=Untouched(), CONTENT_LENGTH="6"),
        call(application, path="/files", query=f"after={hash_}"),
    ):
        assert (answer.status, answer.json["code"]) == (400, "bad_request")
        assert answer.json["algorithms"] == list(KEPT)
        assert "sha256, md5 or sha1" in answer.json["detail"]


@every_store
def test_an_announced_digest_of_any_name(application: Application) -> None:
    """`?hash=` takes any name, also several; one that differs from the bytes refuses them."""
    for names in itertools.permutations(NAMES.values(), 2):
        query = "&".join(f"hash={hash_}" for hash_ in names)
        assert call(application, "POST", query=query, body=DATA).json["hash"] == NAMES["sha256"]
        answer = call(application, "POST", query=query, body=b"other")
        assert (answer.status, answer.json["code"]) == (422, "digest_mismatch")
    for name in KEPT:
        assert call(application, "POST", body=DATA, HTTP_REPR_DIGEST=digest_field(name)).status == 200
        assert call(application, "POST", body=b"x", HTTP_REPR_DIGEST=digest_field(name)).status == 422
    assert len(list(application.store.iterate())) == 1


@every_store
@pytest.mark.parametrize("name", KEPT)
def test_a_list_goes_by_the_algorithm_of_its_cursor(api: TestApp, name: str) -> None:
    """Every page of it has names of that algorithm in their order, and each blob once."""
    wanted = {}
    for number in range(20):
        told = api.post("/", f"{number}").json
        wanted[told["names"][name]] = told["hash"]
    url, listed = f"/files?limit=3&after={NONE[name]}", []
    while url is not None:
        page = api.get(url).json
        listed += page["files"]
        url = page["next"]
        assert url is None or len(page["files"][-1]["hash"]) == len(NONE[name])
    assert [row["hash"] for row in listed] == sorted(wanted)
    for row in listed:
        assert row["url"] == f"/{row['hash']}"
        assert row["names"]["sha256"] == wanted[row["hash"]]
        assert row["names"][name] == row["hash"]
    assert [row["hash"] for row in api.get("/files").json["files"]] == sorted(wanted.values())


@every_store
def test_files_with_the_same_md5(api: TestApp) -> None:
    """The second is stored by its own names; the shared one stays with the first, and conditions know."""
    first, second = (api.post("/", data).json for data in COLLIDING)
    assert "ambiguous" not in first
    assert second["created"] and second["ambiguous"] == ["md5"]
    assert second["names"].keys() == {"sha256", "sha1"}
    shared = first["names"]["md5"]
    assert api.get(f"/{shared}").body == COLLIDING[0]
    assert api.get(second["url"]).body == COLLIDING[1]
    assert api.post("/", COLLIDING[1]).json == second | {"created": False}
    api.get(second["url"], headers={"If-Match": f'"{shared}"'}, status=412)
    api.get(second["url"], headers={"If-None-Match": f'"{shared}"'}, status=200)
    api.delete(second["url"], headers={"If-Match": f'"{shared}"'}, status=412)
    api.get(first["url"], headers={"If-Match": f'"{shared}"'}, status=200)


@every_store
def test_who_may_ask_by_which_name(make: Make) -> None:
    """A link is for the name it carries, and a ticket takes any name of the file."""
    api = make(line("writer", "write"))
    signer = Signer([KEY])
    for hash_ in NAMES.values():
        ticket = signer.ticket(soon(), hash_=hash_)
        assert code(api.post(f"/?ticket={ticket}", b"other", status=422)) == "digest_mismatch"
        assert api.post(f"/?ticket={ticket}", DATA).json["hash"] == NAMES["sha256"]
        link = signer.link(hash_, soon())
        for other in NAMES.values():
            status = 200 if other == hash_ else 403
            api.get(f"/{other}?link={link}", status=status)
    assert (
        code(api.post(f"/?ticket={signer.ticket(soon(), hash_=UNKEPT)}", DATA, status=400)) == "bad_request"
    )
    api.get(f"/{NAMES['md5']}", status=401)
    api.get(f"/{NAMES['md5']}", headers=bearer("all"))


def test_views_of_a_host_take_any_name(application: Application) -> None:
    """`receive` checks any name and returns all; `send` sends by any."""
    for name, hash_ in NAMES.items():
        receipt = application.receive(DATA, hash_=hash_)
        assert receipt.digest.hex == NAMES["sha256"]
        assert [(one.algorithm.value, one.hex) for one in receipt.names] == list(NAMES.items())
        assert not receipt.ambiguous
        with pytest.raises(errors.DigestMismatch):
            application.receive(DATA, hash_=NONE[name])
        answer = call(application.send(request(), hash_))
        assert (answer.body, answer.headers["ETag"]) == (DATA, f'"{hash_}"')
        for other in NAMES.values():
            environ = request(HTTP_IF_NONE_MATCH=f'"{other}"')
            assert call(application.send(environ, hash_), HTTP_IF_NONE_MATCH=f'"{other}"').status == 304
    with pytest.raises(errors.BadRequest, match="sha256, md5 or sha1"):
        application.receive(DATA, hash_=UNKEPT)
    with pytest.raises(errors.BlobNotFound) as caught:
        application.send(request(), UNKEPT)
    assert caught.value.evidence == {"hash": UNKEPT, "algorithms": list(KEPT)}


@pytest.mark.parametrize("kind", [Sendfile.X_ACCEL, Sendfile.X_SENDFILE])
@pytest.mark.parametrize("asked", KEPT)
def test_a_front_server_gets_the_file(config: Config, kind: Sendfile, asked: str) -> None:
    """A front server is sent to the file itself, not to a link to it, whichever name was asked for."""
    application = create_app(replace(config, sendfile=kind))
    call(application, "POST", body=DATA)
    answer = call(application, path=f"/{NAMES[asked]}", HTTP_RANGE="bytes=0-1")
    path = answer.headers["X-Accel-Redirect" if kind is Sendfile.X_ACCEL else "X-Sendfile"]
    assert path.endswith(f"/{NAMES['sha256'][:2]}/{NAMES['sha256']}")
    assert answer.headers["ETag"] == f'"{NAMES[asked]}"'
    assert answer.headers["Repr-Digest"] == digest_field(*known(asked))


def test_a_file_without_a_primary_name(config: Config) -> None:
    """A regular file under a further name is a blob; a front server is not sent to it."""
    application = create_app(replace(config, sendfile=Sendfile.X_ACCEL))
    path = Path(config.root, NAMES["md5"][:2], NAMES["md5"])
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(DATA)
    answer = call(application, path=f"/{NAMES['md5']}")
    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers["ETag"] == f'"{NAMES["md5"]}"'
    assert answer.headers["Repr-Digest"] == digest_field("md5")
    told = call(application, "DELETE", f"/{NAMES['md5']}").json
    assert told == {"hash": NAMES["md5"], "names": {"md5": NAMES["md5"]}, "size": len(DATA)}


def give_primary_names(store: Names, hashes: Iterable[str]) -> None:
    """Give files that have only their md5 as a name the other names."""
    for hash_ in hashes:
        name = Algorithm.MD5.parse(hash_)
        with closing(store.open(name)) as reader:  # type: ignore[attr-defined]
            data = b"".join(reader)
            digests = {
                one: Digest(one, hashlib.new(one.value, data).digest())
                for one in (Algorithm.SHA256, Algorithm.MD5)
            }
            assert store.adopt([Hashed(name, reader.stamp, digests)]) == [Adopted.NAMED]


def test_a_front_server_is_not_sent_to_a_file_that_may_move(root: Path) -> None:
    """Once a migration has begun, files with an old name are sent from here, others not."""
    config = Config(root=str(root), min_free=0, hash=Algorithm.MD5, sendfile=Sendfile.X_ACCEL)
    application = create_app(config)
    path = call(application, "POST", body=DATA).json["url"]
    assert "X-Accel-Redirect" in call(application, path=path).headers
    store = by_another_process(config)
    store.change_marker(
        lambda marker: replace(
            marker, algorithm=Algorithm.SHA256, names=(Algorithm.MD5,), migrating=Algorithm.MD5
        )
    )
    answer = call(application, path=path)
    assert (answer.status, answer.body) == (200, DATA)
    give_primary_names(store, [NAMES["md5"]])
    sent = call(application, path=path).headers["X-Accel-Redirect"]
    assert sent.endswith(f"/{NAMES['sha256']}")


def test_names_that_are_added_and_dropped_meanwhile(root: Path) -> None:
    """A running service knows the names that another process adds, and no longer those that it drops."""
    application = create_app(Config(root=str(root), min_free=0, hash=Algorithm.SHA256))
    hash_, other = NAMES["sha256"], NAMES["md5"]
    call(application, "POST", body=DATA)
    answer = call(application, path=f"/{other}")
    assert (answer.status, answer.json["algorithms"]) == (404, ["sha256"])
    store = by_another_process(application.config)
    store.change_marker(lambda marker: replace(marker, names=(Algorithm.MD5,)))
    query = {"query": f"hash={other}", "body": DATA}
    told = call(create_app(application.config), "POST", **query).json
    assert told["names"] == {"sha256": hash_, "md5": other}
    for field, status in (("MATCH", 200), ("NONE_MATCH", 304)):
        assert call(application, path=f"/{hash_}", **{f"HTTP_IF_{field}": f'"{other}"'}).status == status
    assert call(application, path=f"/{other}").body == DATA
    assert call(application, "POST", **query).json == told
    store.change_marker(lambda marker: replace(marker, names=()))
    assert len(list(store.sweep_names(remove=True))) == 1
    answer = call(application, path=f"/{other}")
    assert (answer.status, answer.json["code"]) == (404, "blob_not_found")
    assert call(application, "POST", **query).status == 400


def test_pages_of_a_list_during_a_migration(root: Path) -> None:
    """Each blob is on exactly one page, although it gets its primary name while the list is read."""
    config = Config(root=str(root), min_free=0, hash=Algorithm.MD5)
    application, other = create_app(config), create_app(config)
    hashes = sorted(call(application, "POST", body=b"%d" % number).json["hash"] for number in range(24))
    store = by_another_process(config)
    listed, url, waiting = [], "limit=2", [*hashes]
    for number in itertools.count():
        page = call((application, other)[number % 2], path="/files", query=url).json
        listed += [row["hash"] for row in page["files"]]
        if page["next"] is None:
            break
        url = page["next"].partition("?")[2]
        if number == 2:
            store.change_marker(
                lambda marker: replace(
                    marker, algorithm=Algorithm.SHA256, names=(Algorithm.MD5,), migrating=Algorithm.MD5
                )
            )
            # A list that begins now goes by the old names, too.
            assert call(application, path="/files", query="limit=2").json["files"][0]["hash"] == hashes[0]
        if 2 < number < 9:
            # Some before the cursor, and some behind it.
            give_primary_names(store, {waiting.pop(0), waiting.pop()})
        if number == 9:
            give_primary_names(store, waiting)
            store.change_marker(lambda marker: replace(marker, migrating=None))
    assert listed == hashes
    page = call(application, path="/files", query="limit=1").json
    assert len(page["files"][0]["hash"]) == 64
    assert page["files"][0]["names"].keys() == {"sha256"}

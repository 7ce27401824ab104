"""`/files?prefix=`: the hashes with a beginning, compared with a plain list, and what reading them costs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webtest import TestApp

from tests.support.calling import call, held, pages, quick
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BadRequest, StoreUnavailable
from wsgi_store.store.abilities import Names
from wsgi_store.store.contract import Blob
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.web.application import Application
from wsgi_store.web.listing import _blobs as listed

COUNT = 40


def fill(application: Application) -> list[str]:
    """Store some blobs unless that was done; return their hashes in order."""
    found = held(application)
    for number in range(len(found), COUNT):
        call(application, "POST", body=b"%d" % number)
    return found or held(application)


@pytest.mark.every_store
@pytest.mark.long(20)
@pytest.mark.parametrize("algorithm", Algorithm)
@given(data=st.data())
def test_any_beginning(config: Config, algorithm: Algorithm, data: st.DataObject) -> None:
    """A prefix of any length and case, with any `after` and `limit`, lists what a plain list has."""
    application = quick(replace(config, hash=algorithm))
    hashes = fill(application)
    digits = 2 * algorithm.size
    some = st.sampled_from(hashes)
    cut = st.builds(lambda hash_, length: hash_[:length], some, st.integers(0, 3) | st.integers(0, digits))
    prefix = data.draw(cut | st.text("0123456789abcdef", max_size=3), "prefix")
    near = st.builds(lambda end: prefix.ljust(digits, end), st.sampled_from("0f"))
    after = data.draw(st.none() | some | near | st.text("08f", min_size=digits, max_size=digits), "after")
    limit = data.draw(st.integers(1, 7), "limit")
    written = data.draw(st.sampled_from([prefix, prefix.upper(), prefix.title()]), "case")
    query = f"prefix={written}&limit={limit}" + (f"&after={after}" if after is not None else "")
    found = list(pages(application, query))
    assert sum(found, []) == [hash_ for hash_ in hashes if hash_.startswith(prefix) and hash_ > (after or "")]
    assert all(len(page) == limit for page in found[:-1])


def forge(store: LocalStore, hashes: list[str]) -> None:
    """Put files under these names into a store, whatever their bytes."""
    for hash_ in hashes:
        shard = Path(store.root, hash_[:2])
        shard.mkdir(exist_ok=True)
        (shard / hash_).write_bytes(b"x")


EDGES = [
    begin + fill * (64 - len(begin) - 1) + end
    for begin in ("", "aaf", "ab", "abc", "ac")
    for fill in "0f"
    for end in "01ef"
]


@pytest.mark.parametrize(
    "prefix", ["", "0", "00", "f", "ff", "a", "aa", "ab", "abc", "abcf", "ac", "b", "0" * 64]
)
def test_at_the_edges(config: Config, prefix: str) -> None:
    """The first and the last hash with a prefix are listed, and none beside them."""
    application = quick(config)
    store = application.store
    assert isinstance(store, LocalStore)
    forge(store, EDGES)
    every = sorted(set(EDGES))
    for after in (None, "0" * 64, "f" * 64, *every):
        begin = None if after is None else Digest(Algorithm.SHA256, bytes.fromhex(after))
        found = [blob.digest.hex for blob in listed(store, begin, prefix)]
        assert found == [one for one in every if one.startswith(prefix) and (after is None or one > after)]


@pytest.mark.every_store
def test_next_keeps_the_prefix(api: TestApp, application: Application) -> None:
    """The next page has the same prefix, in lower case; without one nothing is added."""
    hashes = fill(application)
    first = hashes[0][0]
    many = max("0123456789abcdef", key=lambda digit: sum(one.startswith(digit) for one in hashes))
    page = api.get(f"/files?prefix={many.upper()}&limit=1").json
    assert page["next"] == f"/files?after={page['files'][0]['hash']}&limit=1&prefix={many}"
    page = api.get("/files?prefix=&limit=1").json
    assert page["files"][0]["hash"].startswith(first)
    assert page["next"] == f"/files?after={hashes[0]}&limit=1"
    assert api.head(f"/files?prefix={first}").headers["Content-Length"]


@pytest.mark.parametrize(
    "prefix",
    ["g", "x" * 64, "0" * 65, "0x", "+1", " 1", "%20", "1_0", "²", "%D9%A1", "%00", "%ff", "../..", "-1"],
)
def test_no_hash_begins_so(api: TestApp, prefix: str) -> None:
    """A malformed or longer prefix gets 400 with the number of digits of a hash."""
    answer = api.get(f"/files?prefix={prefix}", status=400).json
    assert (answer["code"], answer["limit"]) == ("bad_request", 64)


@pytest.mark.every_store
def test_when_it_was_added(api: TestApp) -> None:
    """`modified` is the time in Last-Modified of a download, in whole seconds."""
    api.post("/", b"hello")
    [file] = api.get("/files").json["files"]
    assert isinstance(file["modified"], int)
    assert abs(api.get(file["url"]).last_modified.timestamp() - file["modified"]) < 1


def names_config(config: Config) -> Config:
    """Settings for a store whose blobs have three names."""
    return replace(config, hash=Algorithm.SHA256, names=(Algorithm.MD5, Algorithm.SHA1))


@pytest.mark.every_store
def test_by_which_algorithm(config: Config) -> None:
    """A prefix is of hashes by the algorithm of `after`, else by that of the list, also in a migration."""
    application = create_app(names_config(config))
    told = [call(application, "POST", body=b"%d" % number).json for number in range(COUNT)]
    for name, after in (("sha256", ""), ("md5", f"&after={'0' * 32}"), ("sha1", f"&after={'0' * 40}")):
        for prefix in ("", "0", "7", "f", told[0]["names"][name]):
            wanted = sorted(one["names"][name] for one in told if one["names"][name].startswith(prefix))
            assert sum(pages(application, f"limit=3&prefix={prefix}{after}"), []) == wanted
    assert call(application, path="/files", query=f"prefix={'0' * 33}&after={'0' * 32}").status == 400
    store = application.store
    assert isinstance(store, Names)
    store.change_marker(
        lambda marker: replace(
            marker, algorithm=Algorithm.SHA1, names=(Algorithm.SHA256,), migrating=Algorithm.SHA256
        )
    )
    wanted = sorted(one["hash"] for one in told if one["hash"].startswith("7"))
    assert sum(pages(application, "limit=3&prefix=7"), []) == wanted


def test_nothing_else_is_read(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a directory nor a file before the prefix is read, and at most one file behind it."""
    application = create_app(config)
    store = application.store
    assert isinstance(store, LocalStore)
    forge(store, [f"{number:02x}{rest:062x}" for number in range(256) for rest in (1, 2, 3)])
    seen: list[str] = []
    names = store.listing.names

    def spied(shard: str) -> list[str]:
        seen.append(shard)
        return names(shard)

    monkeypatch.setattr(store.listing, "names", spied)
    looked: list[Blob] = []
    iterate = store.iterate

    def counted(after: Digest | None = None, algorithm: Algorithm | None = None) -> Iterator[Blob]:
        for blob in iterate(after, algorithm):
            looked.append(blob)
            yield blob

    monkeypatch.setattr(store, "iterate", counted)
    for query, shards, files in (
        ("prefix=80", ["80", "81"], 4),
        ("prefix=80&limit=2", ["80"], 3),
        ("prefix=8", [*(f"8{digit:x}" for digit in range(16)), "90"], 49),
        (f"prefix=80{1:062x}", ["80"], 2),
        (f"prefix=80&after={'7' * 64}", ["80", "81"], 4),
        (f"prefix=80&after=80{2:062x}", ["80", "81"], 2),
        (f"prefix=80&after={'8' + 'f' * 63}", [], 0),
        ("prefix=00", ["00", "01"], 4),
        ("prefix=fff", ["ff"], 0),
    ):
        seen.clear()
        looked.clear()
        assert call(application, path="/files", query=query).status == 200
        assert (seen, len(looked)) == (shards, files), query


def test_a_store_that_fails(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of the store gets 503, as without a prefix."""

    def fail(*_: object) -> Iterator[Blob]:
        raise StoreUnavailable("no disk")

    monkeypatch.setattr(application.store, "iterate", fail)
    assert call(application, path="/files", query="prefix=a").status == 503
    with pytest.raises(BadRequest):
        listed(application.store, None, "g")

"""What settings say about a store is compared with its marker."""

import json
import re

import pytest

from wsgi_store.digest import Algorithm
from wsgi_store.errors import ConfigError, WrongStore
from wsgi_store.store.marker import Marker, Wanted, read

BLAKE3, MD5, SHA1, SHA256, SHA512 = (
    Algorithm(name) for name in ("blake3", "md5", "sha1", "sha256", "sha512")
)
Kept = tuple[Algorithm, ...]
ACCEPTED: list[tuple[Kept, Algorithm | None, Kept | None]] = [
    ((MD5,), None, None),
    ((MD5,), MD5, ()),
    ((SHA256, MD5, SHA1), None, None),
    ((SHA256, MD5, SHA1), None, (SHA1, MD5)),
    # The primary algorithm may be listed too.
    ((SHA256, MD5), None, (SHA256, MD5)),
    # As before a migration from md5 to sha256.
    ((SHA256, MD5), MD5, None),
    ((SHA256, MD5), MD5, (SHA256,)),
    # The default of a new store does not matter for one that is there.
    ((MD5, SHA256), None, (SHA256,)),
    ((MD5, BLAKE3), None, (BLAKE3,)),
]
REFUSED: list[tuple[Kept, Algorithm | None, Kept | None, str]] = [
    (
        (MD5,),
        SHA256,
        None,
        "/s holds md5 digests, not sha256: set WSGI_STORE_HASH=md5, or WSGI_STORE_ROOT to another place, "
        "or run `wsgi-store migrate --to sha256`",
    ),
    # `migrate` takes no target that collides, and none whose hashes are as long as those of a kept one.
    (
        (SHA256, SHA1),
        MD5,
        None,
        "/s holds sha256 digests, not md5: set WSGI_STORE_HASH=sha256, or WSGI_STORE_ROOT to another place",
    ),
    (
        (MD5, SHA256),
        BLAKE3,
        None,
        "/s holds md5 digests, not blake3: set WSGI_STORE_HASH=md5, or WSGI_STORE_ROOT to another place",
    ),
    (
        (SHA256,),
        None,
        (MD5, SHA1),
        "/s keeps other names: set WSGI_STORE_NAMES=none, or run `wsgi-store migrate --add-names md5,sha1`",
    ),
    (
        (SHA256, MD5, SHA1),
        None,
        (),
        "/s keeps other names: set WSGI_STORE_NAMES=md5,sha1, or run "
        "`wsgi-store migrate --drop-names md5,sha1`",
    ),
    (
        (SHA256, MD5),
        SHA256,
        (SHA512,),
        "/s keeps other names: set WSGI_STORE_NAMES=md5, or run `wsgi-store migrate --drop-names md5` and "
        "`wsgi-store migrate --add-names sha512`",
    ),
    (
        (SHA256, MD5),
        None,
        (MD5, BLAKE3),
        "/s keeps sha256,md5: sha256 and blake3 have hashes of the same length: set WSGI_STORE_NAMES=md5",
    ),
]


@pytest.mark.parametrize("kept, algorithm, names", ACCEPTED)
def test_settings_that_fit(kept: Kept, algorithm: Algorithm | None, names: Kept | None) -> None:
    """Settings that are not given, those of the store, and those from before its migration are accepted."""
    Wanted.of(algorithm, names, create=True).require(Marker(kept[0], kept[1:]), "/s")


@pytest.mark.parametrize("kept, algorithm, names, message", REFUSED)
def test_settings_that_differ(
    kept: Kept, algorithm: Algorithm | None, names: Kept | None, message: str
) -> None:
    """Other settings are refused with each way out: what to set, and the command that changes the store."""
    with pytest.raises(WrongStore) as caught:
        Wanted.of(algorithm, names, create=True).require(Marker(kept[0], kept[1:]), "/s")
    assert str(caught.value) == message


@pytest.mark.parametrize("algorithm, names", [(SHA512, (Algorithm.BLAKE2B,)), (None, (BLAKE3,))])
def test_no_store_is_made_with_two_algorithms_of_one_length(algorithm: Algorithm | None, names: Kept) -> None:
    """A marker with two algorithms of one length is not written."""
    with pytest.raises(
        ConfigError, match="^WSGI_STORE_NAMES: [a-z0-9]+ and blake[23]b? have hashes of the sam"
    ):
        Wanted.of(algorithm, names, create=True).new.text()


EDITED = [
    (["sha512", "sha1", "blake2b"], "sha512 and blake2b have hashes of the same length"),
    (["sha256", "blake3"], "sha256 and blake3 have hashes of the same length"),
    (["sha256", "md5", "sha256"], "sha256 is given twice"),
]


@pytest.mark.parametrize("algorithms, reason", EDITED)
def test_a_marker_edited_by_hand(algorithms: list[str], reason: str) -> None:
    """A marker with two algorithms of one length is refused, with the reason."""
    first, *names = algorithms
    content = json.dumps({"algorithm": first, "layout": "ab/abcdef+names", "names": names, "made": 1.0})
    with pytest.raises(WrongStore, match=f"^/s/store.json: {re.escape(reason)}$"):
        read(content.encode(), "/s")

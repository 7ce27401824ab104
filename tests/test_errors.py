"""Exceptions: their messages, their evidence, and the translation of foreign ones."""

import errno
import inspect
import os
import pickle
from typing import Any

import pytest

from wsgi_store import errors
from wsgi_store.errors import (
    BY_CODE,
    BlobNotFound,
    DigestCollision,
    DigestMismatch,
    FilesRefused,
    IncompleteBody,
    MethodNotAllowed,
    RangeNotSatisfiable,
    RequestError,
    RequestTimeout,
    StorageFull,
    StoreError,
    StoreUnavailable,
    TooLarge,
    WSGIStoreError,
)
from wsgi_store.filesystem import disk_errors
from wsgi_store.mapped import mapped


def test_every_failure_has_one_base() -> None:
    """All exceptions of this package share one base class, and none is an OSError."""
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if kind.__module__ == errors.__name__ and issubclass(kind, BaseException)
    ]
    assert len(kinds) > 15
    for kind in kinds:
        assert issubclass(kind, WSGIStoreError)
        assert not issubclass(kind, OSError)
        assert not issubclass(kind, StoreError) or not issubclass(kind, RequestError)


@pytest.mark.parametrize(
    ("error", "message", "evidence"),
    [
        (WSGIStoreError("it failed", limit=3), "it failed", {"limit": 3}),
        (WSGIStoreError("it failed"), "it failed", {}),
        (BlobNotFound(hash="ab"), "no blob ab in this store", {"hash": "ab"}),
        (
            DigestCollision(hash="ab"),
            "the store already has a different file with the hash ab",
            {"hash": "ab"},
        ),
        (
            IncompleteBody(expected=2, actual=1),
            "the body ended early",
            {"expected": 2, "actual": 1},
        ),
        (TooLarge(limit=5), "the file is larger than 5 bytes", {"limit": 5}),
        (
            DigestMismatch(expected=1, actual=2),
            "the bytes do not match an announced digest",
            {"expected": "1", "actual": "2"},
        ),
        (MethodNotAllowed(allowed=["GET"]), "this method is not allowed here", {"allowed": ["GET"]}),
        (RangeNotSatisfiable(size=7), "no requested range overlaps a blob of 7 bytes", {"size": 7}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_failure_carries_its_evidence(
    error: WSGIStoreError, message: str, evidence: dict[str, object]
) -> None:
    """An exception has a message and its values as evidence."""
    assert str(error) == error.message == message
    assert error.evidence == evidence


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ([{"error": {"status": 413}}, {"hash": "ab"}, {"error": {"status": 409}}], 413),
        ([{"error": {"status": 507}}, {"error": {"status": 503}}], 507),
        ([], 422),
        # What a server may tell a client.
        (5, 422),
        ("files", 422),
        ({"a": 1}, 422),
        ([None, 1, "x", [], {}, {"error": None}, {"error": {"status": "500"}}, {"error": {}}], 422),
    ],
)
def test_files_that_are_refused(files: Any, status: int) -> None:
    """The status is the highest of theirs, and `files` is what was told, whatever that is."""
    error = FilesRefused(files=files)
    assert (error.files, error.status, FilesRefused.status) == (files, status, 422)


def test_no_files_that_are_refused() -> None:
    """A client that was told of no files has none."""
    assert FilesRefused().evidence == {"files": []}


@pytest.mark.parametrize("kind", BY_CODE.values())
def test_a_failure_goes_to_another_process(kind: type[WSGIStoreError]) -> None:
    """A pickled exception keeps its message and evidence."""
    error = kind("it failed", hash="ab", size=7)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (kind, "it failed", vars(error))


@pytest.mark.parametrize("code", sorted(errno.errorcode), ids=errno.errorcode.get)
def test_errors_of_a_disk(code: int) -> None:
    """A full disk raises StorageFull, any other OSError StoreUnavailable, with its cause but not its path."""
    full = code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    cause = OSError(code, os.strerror(code), "/secret/path")
    with pytest.raises(StoreError) as caught, disk_errors("cannot write"):
        raise cause
    assert caught.type is (StorageFull if full else StoreUnavailable)
    assert str(caught.value) == f"cannot write: {os.strerror(code)}"
    assert caught.value.__cause__ is cause


def test_an_error_of_a_disk_without_a_number() -> None:
    """An OSError without a number is reported by its text."""
    with pytest.raises(StoreUnavailable, match="^cannot write: it is broken$"), disk_errors("cannot write"):
        raise OSError("it is broken")


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), BlobNotFound(hash="ab"), KeyboardInterrupt()], ids=repr
)
def test_other_errors_pass(error: BaseException) -> None:
    """An exception other than OSError passes unchanged."""
    with pytest.raises(type(error)) as caught, disk_errors("cannot write"):
        raise error
    assert caught.value is error


def test_the_first_row_that_fits() -> None:
    """A foreign exception is translated by the first matching row, and becomes the cause."""
    table: dict[type[Exception], type[WSGIStoreError]] = {
        TimeoutError: RequestTimeout,
        OSError: IncompleteBody,
    }
    cause: OSError
    for cause, kind in (
        (TimeoutError("slow"), RequestTimeout),
        (ConnectionResetError("gone"), IncompleteBody),
    ):
        with pytest.raises(kind, match="^the body broke off$") as caught, mapped(table, "the body broke off"):
            raise cause
        assert caught.value.__cause__ is cause


@pytest.mark.parametrize("error", [KeyError("a bug"), SystemExit(1)], ids=repr)
def test_no_row_fits(error: BaseException) -> None:
    """An exception without a matching row passes unchanged."""
    with pytest.raises(type(error)) as caught, mapped({OSError: IncompleteBody}, "the body"):
        raise error
    assert caught.value is error

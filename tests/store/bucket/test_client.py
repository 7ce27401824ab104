"""Connecting to a bucket: which settings are accepted, and the errors for those that are not."""

import json
import os
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest

from tests.support import ceph
from tests.support.buckets import s3
from tests.support.kinds import BucketKind, digest_of
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.errors import BlobNotFound, ConfigError, StoreUnavailable, WrongStore
from wsgi_store.store.abilities import SignedURLs
from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.signing import Signer
from wsgi_store.store.contract import Durability, Remote, Store
from wsgi_store.store.open import open_store

DIGEST = digest_of(Algorithm.MD5, b"never added")
DURABILITY = Durability.FULL


@pytest.fixture(name="url")
def fixture_url(tmp_path: Path) -> str:
    """The URL of a new store in the bucket."""
    ceph.cluster()
    return BucketKind().url(tmp_path)


def refused(store: Store, code: str) -> None:
    """Check that a misconfigured store fails its check as WrongStore, and is unavailable in use."""
    with pytest.raises(WrongStore, match=code) as caught:
        store.check()
    assert str(caught.value).isprintable()
    for ask in (store.stat, store.open, store.remove):
        with pytest.raises(StoreUnavailable) as unavailable:
            ask(DIGEST)
        assert code not in str(unavailable.value)
        assert code in str(unavailable.value.__cause__)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("AWS_ACCESS_KEY_ID", "nobody", "InvalidAccessKeyId"),
        ("AWS_SECRET_ACCESS_KEY", "wrong", "SignatureDoesNotMatch"),
        ("AWS_SECRET_ACCESS_KEY", None, "Missing SecretAccessKey"),
    ],
)
def test_wrong_keys(
    url: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, code: str
) -> None:
    """Keys that the object store rejects are told apart from an unreachable object store."""
    staging = url.removeprefix(f"s3://{ceph.BUCKET}")
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    refused(open_store(url, Algorithm.MD5, DURABILITY, Remote(staging)), code)


def test_no_bucket(tmp_path: Path, url: str) -> None:
    """A missing bucket is reported, not taken for an empty one."""
    del url
    refused(open_store("s3://nowhere/x", Algorithm.MD5, DURABILITY, Remote(str(tmp_path))), "NoSuchBucket")


def test_nobody_listens(tmp_path: Path, url: str) -> None:
    """An unreachable object store may come back, so it is not reported as a wrong store."""
    remote = Remote(str(tmp_path), endpoint="http://127.0.0.1:1", timeout=0.5)
    store = open_store(url, Algorithm.MD5, DURABILITY, remote)
    for ask in (store.check, lambda: store.stat(DIGEST)):
        with pytest.raises(StoreUnavailable) as caught:
            ask()
        assert "Connection refused" in str(caught.value.__cause__)


def test_settings_arrive(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the object store override the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    config = Config(
        root=url, s3_staging=str(tmp_path / "staging"), s3_endpoint=ceph.cluster().endpoint, s3_timeout=5.0
    )
    store = open_store(config.root, config.hash, config.durability, config.remote, create=True)
    with pytest.raises(BlobNotFound):
        store.stat(DIGEST)
    assert Path(store.staging_directory).parent == tmp_path / "staging"


@pytest.mark.parametrize(
    ("path_style", "address"),
    [
        (True, "https://s3.example.org:9000/bucket/prefix/key"),
        (False, "https://bucket.s3.example.org:9000/prefix/key"),
    ],
)
def test_the_bucket_in_the_url(tmp_path: Path, url: str, path_style: bool, address: str) -> None:
    """The bucket is named in the path or in the host, as configured."""
    del url
    remote = Remote(str(tmp_path), endpoint="https://s3.example.org:9000", path_style=path_style)
    signed = Signer(Bucket("s3://bucket/prefix/", remote)).sign("key", 60, {"response-content-type": "a/b"})
    assert signed is not None
    parts = urlsplit(signed)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == address
    assert "response-content-type=a%2Fb" in parts.query


def test_a_url_of_aws(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an endpoint the URL is that of AWS, and a temporary key's token is signed too."""
    del url
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a+b/c=")
    signed = Signer(Bucket("s3://bucket", Remote(str(tmp_path)))).sign("key", 60, {})
    assert signed is not None
    assert signed.startswith("https://s3.us-east-1.amazonaws.com/bucket/key?")
    assert "X-Amz-Security-Token=a%2Bb%2Fc%3D" in signed


def test_requests_to_aws(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an endpoint, requests go to AWS."""
    del url
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    asked: list[bytes] = []

    def listen() -> None:
        with suppress(OSError):
            while True:
                with listener.accept()[0] as connection:
                    asked.append(connection.recv(4096).splitlines()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread = Thread(target=listen)
        thread.start()
        try:
            store = open_store("s3://bucket", Algorithm.MD5, DURABILITY, Remote(str(tmp_path), timeout=0.5))
            with pytest.raises(StoreUnavailable):
                store.check()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert {*asked} == {b"CONNECT s3.us-east-1.amazonaws.com:443 HTTP/1.1"}


def test_keys_that_expire(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL is not signed with keys that have expired and cannot be renewed."""
    del url
    keys = tmp_path / "keys"
    soon = datetime.now(UTC) + timedelta(minutes=1)
    pair = {"AccessKeyId": "temporary", "SecretAccessKey": "not a secret", "SessionToken": "a token"}
    keys.write_text(json.dumps({"Version": 1, "Expiration": soon.isoformat(), **pair}))
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = cat {keys}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    signer = Signer(Bucket("s3://bucket", Remote(str(tmp_path))))
    signed = signer.sign("key", 60, {})
    assert signed is not None
    assert "temporary" in signed
    keys.unlink()
    with pytest.raises(StoreUnavailable, match="cannot sign a URL") as caught:
        signer.sign("key", 60, {})
    assert "No such file" in str(caught.value.__cause__)


def test_a_bucket_that_keeps_versions(tmp_path: Path, url: str) -> None:
    """Ceph 16 ignores conditions where it keeps old versions, and such a bucket is refused."""
    name = "versions"
    ceph.cluster().make_bucket(name)
    s3().put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    store = open_store(url.replace(ceph.BUCKET, name), Algorithm.MD5, DURABILITY, Remote(str(tmp_path)))
    with pytest.raises(WrongStore, match="If-None-Match on PUT, If-Match on PUT"):
        store.check()


@pytest.mark.parametrize("prefix", ["a//b", "a/./b", "..", "a/../b", "a\nb"])
def test_prefixes_that_are_none(tmp_path: Path, prefix: str) -> None:
    """An invalid prefix is rejected in one line that names the setting."""
    with pytest.raises(ConfigError, match=r"^WSGI_STORE_ROOT: expected s3://") as caught:
        open_store(f"s3://bucket/{prefix}", Algorithm.MD5, DURABILITY, Remote(str(tmp_path)))
    assert str(caught.value).isprintable()


ADDRESSES = {
    "http://127.0.0.1:9000/": True,
    "https://[::1]:9000": True,
    "http://minio_1:9000": True,
    "https://s3.example.org/below": True,
    "http://127.0.0.1:99999": False,
    "http://999.0.0.1": False,
    "http://[::1": False,
    "http://[::g]": False,
    "127.0.0.1:9000": False,
    "http://a b": False,
    "http://a\n": False,
}


@pytest.mark.parametrize("name", [None, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"])
@pytest.mark.parametrize(("address", "good"), ADDRESSES.items())
def test_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, address: str, good: bool
) -> None:
    """An invalid address is rejected in one line that names the setting or the variable."""
    for other in [name for name in os.environ if name.startswith("AWS_ENDPOINT")]:
        monkeypatch.delenv(other)
    if name is not None:
        monkeypatch.setenv(name, address)
    remote = Remote(str(tmp_path), endpoint=address if name is None else None)
    if good:
        assert Bucket("s3://bucket", remote).endpoint == address
        return
    with pytest.raises(ConfigError, match=f"^{name or 'WSGI_STORE_S3_ENDPOINT'}: expected http://") as caught:
        open_store("s3://bucket", Algorithm.MD5, DURABILITY, remote)
    assert str(caught.value).isprintable()
    assert Bucket("gs://bucket", remote).endpoint is None


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the required packages the setting is rejected, and the error says what to install."""
    for name in [name for name in sys.modules if name.startswith("wsgi_store.store.bucket.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigError, match=r"^WSGI_STORE_ROOT: s3:// needs obstore: install the extra s3 "):
        open_store("s3://bucket", Algorithm.MD5, DURABILITY, Remote(str(tmp_path)))


@pytest.mark.parametrize(
    ("root", "settings"),
    [
        (
            "gs://bucket/prefix",
            {
                "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(
                    {
                        "gcs_base_url": "https://127.0.0.1:1",
                        "disable_oauth": True,
                        "client_email": "",
                        "private_key": "",
                        "private_key_id": "",
                    }
                )
            },
        ),
        (
            "az://container/prefix",
            {
                "AZURE_STORAGE_ACCOUNT_NAME": "account",
                "AZURE_STORAGE_ACCOUNT_KEY": "a2V5",
                "AZURE_STORAGE_ENDPOINT": "https://127.0.0.1:1",
            },
        ),
    ],
    ids=["gs", "az"],
)
def test_other_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str, settings: dict[str, str]
) -> None:
    """Google buckets and Azure containers are opened at the configured address."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    store = open_store(root, Algorithm.MD5, DURABILITY, Remote(str(tmp_path), timeout=0.5))
    for ask in (store.check, lambda: store.stat(DIGEST)):
        with pytest.raises(StoreUnavailable) as caught:
            ask()
        assert "Connection refused" in str(caught.value.__cause__)
        assert "127.0.0.1:1/" in str(caught.value.__cause__)
    assert isinstance(store, SignedURLs)
    assert store.url(DIGEST, 60, "a/b", "") is None


def test_a_container_of_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing Azure account name is reported."""
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    with pytest.raises(WrongStore, match="Account must be specified"):
        open_store("az://container", Algorithm.MD5, DURABILITY, Remote(str(tmp_path))).check()

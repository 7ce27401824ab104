"""curl(1) against gunicorn and through nginx."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.exchanges import DATA, HASH, SIZE
from tests.support.servers import gunicorn, nginx

Curl = Callable[..., bytes]


@pytest.fixture(scope="module", name="url", params=["gunicorn", "nginx"])
def fixture_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an empty service."""
    directory = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        server = stack.enter_context(gunicorn(directory))
        if request.param == "nginx":
            server = stack.enter_context(nginx(directory, server, direct=True))
        yield f"http://127.0.0.1:{server.port}"
        assert not server.blobs()
        assert not server.staged()


@pytest.fixture(name="curl")
def fixture_curl(tmp_path: Path) -> Curl:
    """A function that runs curl in a directory with rose.png and returns its output."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    (tmp_path / "rose.png").write_bytes(DATA)

    def run(*arguments: str, stdin: bytes | None = None) -> bytes:
        command = [program, "--silent", "--show-error", "--fail-with-body", "--max-time", "20", *arguments]
        done = subprocess.run(command, cwd=tmp_path, input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, done
        return done.stdout

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data-binary", "@rose.png"],
        ["-T", "rose.png"],
        ["-T", "-"],
        ["-T", "rose.png", "-H", "Transfer-Encoding: chunked", "-H", "Expect:"],
        ["-T", "rose.png", "--request-target", f"/{HASH}/rose.png"],
        ["-X", "PUT", "--data-binary", "@rose.png"],
        ["-X", "POST", "-T", "-"],
        ["-F", "file=@rose.png"],
        ["-F", "note=roses", "-F", 'file=@rose.png;type=image/png;filename=ä "b".png', "-F", "more=yes"],
        ["--data-binary", "@rose.png", "-H", "Transfer-Encoding: chunked", "-H", "Expect:"],
    ],
    ids=" ".join,
)
def test_transfers(url: str, curl: Curl, tmp_path: Path, arguments: list[str]) -> None:
    """A file uploaded by any of curl's ways downloads unchanged and can be removed."""
    stdin = DATA if "-" in arguments else None
    answer = json.loads(curl(*arguments, f"{url}/", stdin=stdin))
    assert (answer["hash"], answer["size"], answer["created"]) == (HASH, SIZE, True)
    if "-F" in arguments or "rose.png" in arguments:
        assert answer["name"] == ('ä "b".png' if "note=roses" in arguments else "rose.png")
    curl("-o", "down", f"{url}{answer['url']}")
    assert (tmp_path / "down").read_bytes() == DATA
    removed = json.loads(curl("-X", "DELETE", f"{url}/{HASH}"))
    assert removed == {"hash": HASH, "names": {"sha256": HASH}, "size": SIZE}


def test_several(url: str, curl: Curl, tmp_path: Path) -> None:
    """Several -F send several files, in whatever fields, and the answer tells of each."""
    (tmp_path / "other").write_bytes(b"other")
    files = ["-F", "file=@rose.png", "-F", "note=roses", "-F", "file=@other"]
    for fields in (files, [part.replace("file=", "file[]=") for part in files]):
        rose, other = json.loads(curl(*fields, f"{url}/"))["files"]
        assert (rose["hash"], rose["name"], rose["size"]) == (HASH, "rose.png", SIZE)
        assert (other["name"], curl(f"{url}{other['url']}")) == ("other", b"other")
    hashes = curl("-H", "Accept: text/plain", *files, f"{url}/").decode().split()
    assert hashes == [HASH, other["hash"]]
    (only,) = json.loads(curl("-F", "file[]=@other", f"{url}/"))["files"]
    assert only["hash"] == other["hash"]
    wrong = f"Repr-Digest: md5=:{'A' * 22}==:"
    refused = ["--no-fail-with-body", "-o", "answer", "-w", "%{http_code}"]
    # Both files in one part (RFC 2388), which RFC 7578 forbids.
    assert curl(*refused, "-F", "f=@rose.png,other", "-F", "g=@other", f"{url}/") == b"400"
    fields = ["-F", "f=@rose.png", "-F", f'f=@other;headers="{wrong}"']
    assert curl(*refused, *fields, f"{url}/") == b"422"
    told = json.loads((tmp_path / "answer").read_bytes())
    assert told["code"] == "files_refused"
    assert [entry.get("hash") for entry in told["files"]] == [HASH, None]
    for hash_ in hashes:
        curl("-X", "DELETE", f"{url}/{hash_}")


NAMES = [
    "ä b.txt",
    "a\nb",
    "100%.txt",
    "a%2Fb",
    "a?b#c",
    "files",
    "healthz",
    "metrics",
    "-",
    "\udcff.bin",
    "x" * 255,
]


@pytest.mark.parametrize("name", NAMES)
def test_names(url: str, curl: Curl, tmp_path: Path, name: str) -> None:
    """-T sends a file of any name, which the answer returns."""
    (tmp_path / name).write_bytes(b"named")
    answer = json.loads(curl("-T", f"./{name}", f"{url}/"))
    assert answer["name"] == os.fsencode(name).decode("utf-8", "replace")
    assert answer["size"] == 5
    curl("-X", "DELETE", f"{url}{answer['url']}")


@pytest.mark.parametrize("size", [0, 1, 65536, 1 << 20, (1 << 20) + 1])
def test_sizes(url: str, curl: Curl, tmp_path: Path, size: int) -> None:
    """-T sends files of any size, with a length or in chunks, and the second time nothing is new."""
    data = DATA[:size]
    (tmp_path / "file").write_bytes(data)
    first = json.loads(curl("-T", "file", f"{url}/"))
    second = json.loads(curl("-T", "-", f"{url}/", stdin=data))
    third = json.loads(curl("-T", "file", f"{url}{first['url']}"))
    assert [answer["created"] for answer in (first, second, third)] == [True, False, False]
    assert {answer["size"] for answer in (first, second, third)} == {size}
    assert curl(f"{url}{first['url']}") == data
    curl("-X", "DELETE", f"{url}{first['url']}")


def test_statuses(url: str, curl: Curl) -> None:
    """A PUT of a known hash tells by its status what it did."""
    put = ["-T", "rose.png", "-o", "answer", "-w", "%{http_code}", f"{url}/{HASH}"]
    assert [curl(*put), curl(*put)] == [b"201", b"200"]
    curl("-X", "DELETE", f"{url}/{HASH}")
    assert curl("-H", "If-None-Match: *", *put) == b"201"
    curl("-X", "DELETE", f"{url}/{HASH}")


@pytest.mark.parametrize(
    "refusal",
    [
        (412, "precondition_failed", ["-H", "If-None-Match: *", "-T", "rose.png", f"/{HASH}"]),
        (400, "bad_request", ["-C", "5", "-T", "rose.png", f"/{HASH}"]),
        (400, "bad_request", ["-C", "5", "-T", "rose.png", "/"]),
        (400, "bad_request", ["-C", "-", "-T", "rose.png", "/"]),
        (400, "bad_request", ["-C", "5", "-X", "POST", "-T", "rose.png", "--request-target", "/", "/"]),
        (404, "blob_not_found", ["-T", "rose.png", f"/{'deadbeef' * 5}"]),
        (404, "not_found", ["-T", "rose.png", "/folder/"]),
        (404, "not_found", ["-T", "rose.png", "/a%2Fb"]),
        (
            415,
            "unsupported_media_type",
            ["-X", "PUT", "-F", "file=@rose.png", "-H", "Expect: 100-continue", "/"],
        ),
    ],
)
def test_refusals(
    request: pytest.FixtureRequest,
    held: str,
    curl: Curl,
    tmp_path: Path,
    refusal: tuple[int, str, list[str]],
) -> None:
    """What can be refused before the body is sent is not sent, and not stored."""
    status, code, (*options, target) = refusal
    # Far longer than curl waits for the answer by default.
    options += ["--expect100-timeout", "20", "--no-fail-with-body", "-o", "answer"]
    told = curl(*options, "-w", "%{http_code} %{size_upload}", held.rpartition("/")[0] + target).split()
    assert int(told[0]) == status
    assert json.loads((tmp_path / "answer").read_bytes())["code"] == code
    # nginx asks for every body itself.
    assert told[1] == b"0" or request.node.callspec.params["url"] == "nginx"


@pytest.fixture(name="held")
def fixture_held(url: str, curl: Curl) -> Iterator[str]:
    """The URL of a blob that exists during the test."""
    curl("--data-binary", "@rose.png", f"{url}/")
    yield f"{url}/{HASH}"
    curl("-X", "DELETE", f"{url}/{HASH}")


def test_resume(held: str, curl: Curl, tmp_path: Path) -> None:
    """-C resumes an interrupted download."""
    (tmp_path / "part").write_bytes(DATA[:1_234_567])
    status = curl("-C", "-", "-o", "part", "-w", "%{http_code} %{size_download}", held)
    assert status.decode() == f"206 {SIZE - 1_234_567}"
    assert (tmp_path / "part").read_bytes() == DATA


def test_ranges(held: str, curl: Curl) -> None:
    """-r downloads ranges."""
    assert curl("-r", "0-4", held) == DATA[:5]
    assert curl("-r", "-70000", held) == DATA[-70_000:]
    assert DATA[2_000_000:2_000_010] in curl("-r", "0-0,2000000-2000009", held)


def test_compressed(held: str, curl: Curl) -> None:
    """Offering compression changes nothing: the bytes must match the hash."""
    assert curl("--compressed", held) == DATA


def test_head(held: str, curl: Curl) -> None:
    """-I prints the header."""
    head = curl("-I", f"{held}/rose.png").decode().lower()
    assert " 200 ok" in head.splitlines()[0]
    assert f"content-length: {SIZE}" in head
    assert f'etag: "{HASH}"' in head
    assert "content-disposition: inline; filename=rose.png" in head


def test_remote_name(held: str, curl: Curl, tmp_path: Path) -> None:
    """-OJ saves a file under the name in the URL."""
    curl("-OJ", f"{held}/%C3%A4%20rose.txt")
    (saved,) = tmp_path.glob("*rose.txt")
    assert saved.read_bytes() == DATA


def test_etag(held: str, curl: Curl, tmp_path: Path) -> None:
    """--etag-compare downloads nothing if the ETag matches."""
    curl("--etag-save", "etag", "-o", "down", held)
    assert (tmp_path / "etag").read_text(encoding="ascii").strip() == f'"{HASH}"'
    status = curl("--etag-compare", "etag", "-o", "again", "-w", "%{http_code} %{size_download}", held)
    assert status == b"304 0"


def test_many_on_one_connection(held: str, curl: Curl) -> None:
    """Five requests share one connection."""
    url = held.rpartition("/")[0]
    targets = [held, f"{url}/healthz", held, f"{url}/files", f"{url}/"]
    counts = curl(
        *[part for target in targets for part in ("-o", "/dev/null", target)], "-w", "%{num_connects} "
    )
    assert counts.split() == [b"1", b"0", b"0", b"0", b"0"]

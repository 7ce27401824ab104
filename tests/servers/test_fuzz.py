"""Raw requests fuzz a real server: no failure, no hang, and only complete uploads stored."""

from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.any_requests import CHANGE, REQUEST, RIGHT, changed, uploads
from tests.support.exchanges import form
from tests.support.fuzzing import exchange, judge
from tests.support.servers import Server
from tests.support.wire import message


def cut(data: bytes, places: list[float]) -> list[bytes]:
    """Split bytes into pieces."""
    ends = sorted(int(place * len(data)) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


CUTS = st.lists(st.floats(0, 1), max_size=4)
PAUSE = st.sampled_from([0, 0, 0.002])


@given(st.lists(REQUEST, min_size=1, max_size=3).map(b"".join), CUTS, PAUSE)
def test_any_request(server: Server, data: bytes, cuts: list[float], pause: float) -> None:
    """Pipelined requests, from almost valid to nonsense, never break the service."""
    judge(server, exchange(server, cut(data, cuts), pause), set(uploads(data)))


@given(st.lists(RIGHT, min_size=1, max_size=2).map(b"".join), st.lists(CHANGE, max_size=3), CUTS, PAUSE)
@example(message("POST", "/", b"whole"), [], [], 0)
@example(message("POST", "/", b"after an empty line"), [(0, 0, b"\r\n")], [], 0)
def test_changed_uploads(
    server: Server, right: bytes, changes: list[tuple[float, int, bytes]], cuts: list[float], pause: float
) -> None:
    """Valid uploads are stored; changed ones only if h11 reads a complete upload, too."""
    data = changed(right, changes)
    statuses = judge(server, exchange(server, cut(data, cuts), pause), set(uploads(data)))
    if not changes:
        assert set(statuses) == {200}


@given(st.binary(max_size=50), st.floats(0, 1, exclude_max=True), CUTS, st.booleans())
def test_cut_forms(server: Server, content: bytes, place: float, cuts: list[float], honest: bool) -> None:
    """A form cut before its last boundary stores nothing, whatever its Content-Length."""
    head, end, body = form("a", content).partition(b"\r\n\r\n")
    part = body[: int(place * len(body.rstrip()))]
    if honest:
        head = head.replace(b"Content-Length: %d" % len(body), b"Content-Length: %d" % len(part))
    assert judge(server, exchange(server, cut(head + end + part, cuts)), set()) == [400]


@given(st.binary(max_size=50), st.lists(CHANGE, min_size=1, max_size=3))
def test_changed_forms(server: Server, content: bytes, changes: list[tuple[float, int, bytes]]) -> None:
    """A changed form is stored or refused."""
    data = form("a", content)
    head, end, body = data.partition(b"\r\n\r\n")
    length = len(body)
    body = changed(body, changes)
    head = head.replace(b"Content-Length: %d" % length, b"Content-Length: %d" % len(body))
    assert judge(server, exchange(server, [head + end + body]))[0] in (200, 400)

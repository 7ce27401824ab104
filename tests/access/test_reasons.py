"""The refusal of a link or a ticket tells its reason, from which a page makes a sentence."""

import time

from tests.support.access import HELLO, KEY, Make, bearer, soon
from wsgi_store.access.signing import Signer

OTHER = "0" * 64


def test_reasons(make: Make) -> None:
    """Each reason is in the evidence of `denied`."""
    client, signer = make(), Signer([KEY])
    client.post("/", b"hello", headers=bearer("all"))
    late = int(time.time()) - 1

    def reason(method: str, url: str) -> str:
        problem = getattr(client, method)(url, status=403).json
        assert problem["code"] == "denied"
        return str(problem["reason"])

    assert reason("get", f"/{HELLO}?link={signer.link(HELLO, late)}") == "expired"
    assert reason("get", f"/{HELLO}?link=x{signer.link(HELLO, soon())}") == "signature"
    assert reason("get", f"/{OTHER}?link={signer.link(HELLO, soon())}") == "hash"
    assert reason("get", f"/{HELLO}/b?link={signer.link(HELLO, soon(), 'a')}") == "filename"
    assert reason("post", f"/?ticket={signer.ticket(late)}") == "expired"
    assert reason("put", f"/{OTHER}?ticket={signer.ticket(soon(), hash_=HELLO)}") == "hash"
    used = signer.ticket(soon())
    client.post(f"/?ticket={used}", b"x")
    assert reason("post", f"/?ticket={used}") == "used"

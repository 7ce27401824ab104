"""Makes a key of Nostr, and signs what it allows at a Blossom server (BUD-11).

python3 examples/blossom.py new KEY            make a private key in the file KEY; prints the public one
python3 examples/blossom.py upload KEY FILE    prints the header field that allows to upload FILE
python3 examples/blossom.py delete KEY FILE    the same to delete it, or `get` to download it
"""

import base64
import hashlib
import json
import os
import sys
import time
from pathlib import Path

from coincurve import PrivateKey


def new(path: str) -> str:
    """Make a private key, and return the public one in hex."""
    key = PrivateKey()
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
        file.write(key.to_hex())
    return public(key)


def public(key: PrivateKey) -> str:
    """Return the public key in hex, as Nostr writes it: without the half of the curve."""
    return key.public_key.format()[1:].hex()


def allow(key: PrivateKey, verb: str, hash_: str, server: str, seconds: int = 60) -> str:
    """Return the header field that allows an action on a blob at a server, for a minute."""
    now = int(time.time())
    tags = [["t", verb], ["x", hash_], ["server", server], ["expiration", str(now + seconds)]]
    event = [0, public(key), now, 24242, tags, f"{verb} a blob"]
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    id_ = hashlib.sha256(text.encode()).digest()
    names = ["pubkey", "created_at", "kind", "tags", "content"]
    signed = {"id": id_.hex(), "sig": key.sign_schnorr(id_).hex(), **dict(zip(names, event[1:], strict=True))}
    return (
        f"Authorization: Nostr {base64.urlsafe_b64encode(json.dumps(signed).encode()).decode().rstrip('=')}"
    )


if __name__ == "__main__":
    if sys.argv[1] == "new":
        print(new(sys.argv[2]))
    else:
        secret = PrivateKey.from_hex(Path(sys.argv[2]).read_text(encoding="ascii"))
        digest = hashlib.sha256(Path(sys.argv[3]).read_bytes()).hexdigest()
        print(allow(secret, sys.argv[1], digest, os.environ.get("BLOSSOM_SERVER", "127.0.0.1")))

"""A host application makes a link for a reader and a ticket for an uploader, neither of whom has a token."""

import sys
import time

from wsgi_store import Signer


def invite(keys: list[str], hash_: str) -> tuple[str, str]:
    """URLs, below the address of the service, of one download and of one upload."""
    signer = Signer(keys)
    link = signer.link(hash_, expires=time.time() + 3600, filename="report.pdf")
    ticket = signer.ticket(expires=time.time() + 600, max_size=10 << 20)
    return f"/{hash_}/report.pdf?link={link}", f"/?ticket={ticket}"


if __name__ == "__main__":
    print(*invite(sys.argv[1].split(","), sys.argv[2]), sep="\n")

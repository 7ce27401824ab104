"""A second client for S3, for the requests that obstore does not have.

It needs much more memory than obstore, so it is imported only by what servers seldom or never do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from wsgi_store.errors import StoreUnavailable
from wsgi_store.store.bucket.client import MAX_CONNECT_TIMEOUT, Bucket
from wsgi_store.store.bucket.endpoint import region
from wsgi_store.store.bucket.failures import Failure

# Kept open; those beyond are closed after each request.
MAX_CONNECTIONS = 64


def connect(bucket: Bucket) -> Any:
    """Create a client with the same settings as that of obstore."""
    return botocore.session.get_session().create_client(
        "s3",
        region_name=region(),
        endpoint_url=bucket.endpoint,
        config=Config(
            connect_timeout=min(MAX_CONNECT_TIMEOUT, bucket.timeout),
            read_timeout=bucket.timeout,
            max_pool_connections=MAX_CONNECTIONS,
            retries={"mode": "standard", "total_max_attempts": 2},
            s3={"addressing_style": "path" if bucket.path_style else "virtual"},
        ),
    )


@contextmanager
def asking(doing: str) -> Iterator[None]:
    """Translate what botocore raises into StoreUnavailable with a Failure as its cause."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise StoreUnavailable(doing) from Failure(error)

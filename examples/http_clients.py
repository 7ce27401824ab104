"""Uploads and downloads with the HTTP libraries that programs in Python have.

    python examples/http_clients.py URL FILE

Each prints the hash. All of them send the file from the disk and write the download to the disk, so that the
memory does not grow with it.
"""

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator

import aiohttp
import httpx
import requests
from requests_toolbelt import MultipartEncoder  # type: ignore[import-untyped]


def by_requests(url: str, path: str) -> str:
    """Upload and download a file with requests."""
    with open(path, "rb") as file:
        answer = requests.put(f"{url}/", data=file, timeout=60)
    answer.raise_for_status()
    hash_: str = answer.json()["hash"]
    with requests.get(f"{url}/{hash_}", stream=True, timeout=60) as answer, open("copy", "wb") as copy:
        answer.raise_for_status()
        for data in answer.iter_content(1 << 20):
            copy.write(data)
    return hash_


def by_toolbelt(url: str, path: str) -> str:
    """Upload a form with requests, whose own forms are made in memory."""
    with open(path, "rb") as file:
        form = MultipartEncoder({"file": ("a name.txt", file, "text/plain")})
        answer = requests.post(f"{url}/", data=form, headers={"Content-Type": form.content_type}, timeout=60)
    answer.raise_for_status()
    hash_: str = answer.json()["hash"]
    return hash_


def by_httpx(url: str, path: str) -> str:
    """Upload and download a file with httpx, and compare it with the hash."""
    with httpx.Client(timeout=60) as client:
        with open(path, "rb") as file:
            answer = client.put(f"{url}/", content=file)
        answer.raise_for_status()
        hash_: str = answer.json()["hash"]
        found = hashlib.sha256()
        with client.stream("GET", f"{url}/{hash_}") as answer:
            answer.raise_for_status()
            for data in answer.iter_bytes():
                found.update(data)
    assert found.hexdigest() == hash_
    return hash_


async def by_httpx_async(url: str, path: str) -> str:
    """Upload a file with httpx where other things go on meanwhile."""

    async def pieces() -> AsyncIterator[bytes]:
        with open(path, "rb") as file:
            while data := await asyncio.to_thread(file.read, 1 << 20):
                yield data

    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.put(f"{url}/", content=pieces())
    answer.raise_for_status()
    hash_: str = answer.json()["hash"]
    return hash_


async def by_aiohttp(url: str, path: str) -> str:
    """Upload and download a file with aiohttp."""
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        with open(path, "rb") as file:
            async with session.put(f"{url}/", data=file) as answer:
                hash_: str = (await answer.json())["hash"]
        async with session.get(f"{url}/{hash_}") as answer:
            with open("copy", "wb") as copy:
                async for data in answer.content.iter_chunked(1 << 20):
                    copy.write(data)
    return hash_


if __name__ == "__main__":
    print(by_requests(*sys.argv[1:]))
    print(by_toolbelt(*sys.argv[1:]))
    print(by_httpx(*sys.argv[1:]))
    print(asyncio.run(by_httpx_async(*sys.argv[1:])))
    print(asyncio.run(by_aiohttp(*sys.argv[1:])))

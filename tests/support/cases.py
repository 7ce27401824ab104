"""Cases of a protocol, as requests and the answers that it asks for (see tests/protocols/tus.cases)."""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.wire import Answer, Connection, chunked

CASE = re.compile(r"\[([a-z-]+)\] (.+)")
BODY = re.compile(r'"([^"]*)"(?:x(\d+)|/(\d+)|(c))?')
# Seconds in which a server has to release an upload whose connection broke.
PATIENCE = 6.0


@dataclass(frozen=True)
class Step:
    """A request, and the answer to it."""

    line: str
    method: str
    target: str
    fields: dict[str, str]
    body: bytes | None
    sent: int | None
    """After how many bytes of the body the connection is reset."""
    chunked: bool
    statuses: list[str]
    expected: dict[str, str | None]
    """The fields of the answer: a value, `~` and a regular expression, or none for any; `!` forbids one."""


@dataclass(frozen=True)
class Case:
    """A statement of a protocol or of its extension, and how it is tried."""

    extension: str
    says: str
    steps: list[Step] = field(default_factory=list)


def cases(path: Path) -> Iterator[Case]:
    """Read a file of cases."""
    case: Case | None = None
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := CASE.fullmatch(line):
            if case is not None:
                yield case
            case = Case(match[1], match[2])
        elif line and not line.startswith("#"):
            assert case is not None, line
            case.steps.append(_step(line))
    assert case is not None
    yield case


def _step(line: str) -> Step:
    asked, _, answered = line.rpartition("->")
    first, *others = [part.strip() for part in asked.split(";")]
    status, *wanted = [part.strip() for part in answered.split(";")]
    method, target = first.split()
    body = next((BODY.fullmatch(part) for part in others if part.startswith('"')), None)
    fields = {"Tus-Resumable": "1.0.0"}
    if body:
        fields["Content-Type"] = "application/offset+octet-stream"
    fields |= {name: value.strip() for name, _, value in (p.partition(":") for p in others if p[0] != '"')}
    return Step(
        line=line,
        method=method,
        target=target,
        fields={name: value for name, value in fields.items() if value},
        body=body[1].encode() * int(body[2] or 1) if body else None,
        sent=int(body[3]) if body and body[3] else None,
        chunked=bool(body and body[4]),
        statuses=status.split("|") if status else [],
        expected={
            name.lower(): value.strip() if colon else None
            for name, colon, value in (part.partition(":") for part in wanted)
        },
    )


def run(case: Case, port: int) -> None:
    """Try a case on a server; AssertionError tells the step that failed."""
    url = ""
    for step in case.steps:
        until = time.monotonic() + PATIENCE
        answer = _ask(step, url, port)
        while answer and answer.status == 423 and "423" not in step.statuses and time.monotonic() < until:
            time.sleep(0.1)
            answer = _ask(step, url, port)
        if answer is not None:
            _check(step, answer)
            url = urlsplit(answer.fields["location"]).path if answer.status == 201 else url


def _ask(step: Step, url: str, port: int) -> Answer | None:
    target = url if step.target == "*" else step.target
    lines = [f"{step.method} {target} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in step.fields.items()]
    body = step.body or b""
    if step.chunked:
        lines.append("Transfer-Encoding: chunked")
        body = chunked(body)
    elif step.body is not None or step.method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    with Connection(port) as connection:
        connection.send("\r\n".join([*lines, "", ""]).encode())
        if step.sent is not None:
            connection.send(body[: step.sent])
            # A reset also drops what the server has not read yet.
            time.sleep(0.3)
            connection.reset()
            return None
        with suppress(OSError):  # a server may refuse a body before it was sent
            connection.send(body)
        return connection.receive(step.method == "HEAD")


def _check(step: Step, answer: Answer) -> None:
    status = str(answer.status)
    seen = f"{step.line}\ngot {status} {answer.fields} {answer.body[:200]!r}"
    assert any(re.fullmatch(known.replace("x", "."), status) for known in step.statuses), seen
    for name, value in step.expected.items():
        if name.startswith("!"):
            assert name[1:] not in answer.fields, seen
            continue
        assert name in answer.fields, seen
        if value is not None and value.startswith("~"):
            assert re.fullmatch(value[1:], answer.fields[name]), seen
        elif value is not None:
            assert answer.fields[name] == value, seen

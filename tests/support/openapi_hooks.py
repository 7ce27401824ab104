"""Hooks that tell Schemathesis what the document cannot express; `openapi.toml` names this module."""

import itertools
import json
import re
from typing import Any

import requests
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure, ServerError
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import CoverageScenario
from schemathesis.openapi.checks import AllowHeaderMismatch, RejectedPositiveData, UnsupportedMethodResponse

# Refusals of well-formed requests because of the store's content or of other fields: a condition
# that does not hold, a range beyond the end, bytes that differ from the announced digest.
BY_STATE = {
    400: {"inconsistent_length"},
    412: {"precondition_failed"},
    416: {"range_not_satisfiable"},
    422: {"digest_mismatch", "checksum_mismatch", "files_refused"},
    460: {"checksum_mismatch"},
}
TUS, DRAFT = "application/offset+octet-stream", "application/partial-upload"
# The field by which a HEAD is of one protocol, and without which it is of the other.
IN_TURNS = itertools.cycle([{"Tus-Resumable": "1.0.0"}, {}])
# Bytes of the longest file.
ROOM = 50
# Fields that a protocol ignores: those of the other one, and malformed ones of the IETF's draft, whose
# text asks for that.
IGNORED = {
    True: {"Upload-Complete", "Upload-Draft-Interop-Version", "Content-Digest"},
    False: {"Upload-Length", "Upload-Draft-Interop-Version", "Upload-Defer-Length", "Upload-Metadata"}
    | {"Upload-Checksum"},
}
FILE = re.compile(rb'^Content-Disposition: form-data; [^\r\n]*filename="', re.MULTILINE)


def files(request: requests.PreparedRequest) -> int | None:
    """How many files were sent in a form; None for any other body."""
    if not str(request.headers.get("Content-Type")).startswith("multipart/form-data"):
        return None
    body = request.body or b""
    return len(FILE.findall(body.encode() if isinstance(body, str) else body))


def negated(case: Any) -> set[ParameterLocation]:
    """Which parts of a request break the document."""
    return {place for place in case.meta.components if case.meta.is_negative_at(place)}


@schemathesis.hook
def before_load_schema(_: Any, raw_schema: dict[str, Any]) -> None:
    """The document allows every algorithm; the store under test uses sha256."""
    hash_ = raw_schema["components"]["schemas"]["Hash"]
    assert hash_["pattern"] == "^[0-9a-fA-F]{32,128}$"
    hash_["pattern"] = "^[0-9a-fA-F]{64}$"
    lines = raw_schema["components"]["schemas"]["HashLines"]
    assert "{32,128}" in lines["pattern"]
    lines["pattern"] = lines["pattern"].replace("{32,128}", "{64}")
    # OpenAPI has no expression for a part of a field.
    uploads, one = (raw_schema["paths"][path] for path in ("/uploads", "/uploads/{id}"))
    append = {"header.Upload-Offset": "$response.header.Upload-Offset"}
    for found, id_, methods in (
        (uploads["post"]["responses"]["201"], "$response.header.Location#regex:/uploads/(.+)", one),
        (one["patch"]["responses"]["204"], "$request.path.id", ("patch", "head")),
        (one["head"]["responses"]["200"], "$request.path.id", ("patch",)),
        (one["head"]["responses"]["204"], "$request.path.id", ("patch",)),
    ):
        found["links"] = {
            one[name]["operationId"]: {
                "operationId": one[name]["operationId"],
                "parameters": {"id": id_, **(append if name == "patch" else {})},
            }
            for name in methods
            if name != "parameters"
        }


@schemathesis.serializer(TUS, DRAFT)
def serialize(_: Any, value: Any) -> dict[str, bytes]:
    """Send any value as bytes."""
    return {"data": value if isinstance(value, bytes) else str(value).encode()}


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any) -> None:
    """Keep to one protocol in a valid request about uploads; OpenAPI cannot say which fields are whose."""
    fields = case.headers
    if not case.path.startswith("/uploads") or negated(case):
        return
    if case.method == "HEAD":
        fields.pop("Tus-Resumable", None)
        fields.update(next(IN_TURNS))
    if case.method in ("POST", "PATCH"):
        if "Tus-Resumable" not in fields and "Upload-Complete" not in fields:
            fields.update([{"Tus-Resumable": "1.0.0"}, {"Upload-Complete": "?0"}][len(str(fields)) % 2])
        tus = "Tus-Resumable" in fields
        separate(fields, tus, case.method == "POST")
        if case.media_type is not None:
            case.media_type = TUS if tus else DRAFT


def separate(fields: Any, tus: bool, creation: bool) -> None:
    """Leave the fields of one protocol, with values that the store can often accept."""
    size = len(str(fields))
    if "Upload-Offset" in fields:
        if size % 5 == 0:
            fields["Upload-Offset"] = str(2 * ROOM)
        elif size % 5 > 1:
            # Most of these contradict what the upload has already.
            fields.pop("Upload-Length", None)
            fields.pop("Upload-Checksum", None)
            fields.pop("Content-Digest", None)
    # The store has room for these, and most lengths that are drawn are too large.
    if "Upload-Length" in fields:
        fields["Upload-Length"] = str(int(fields["Upload-Length"]) % ROOM)
    if not tus:
        for name in ("Upload-Checksum", "Upload-Defer-Length", "Upload-Metadata"):
            fields.pop(name, None)
    elif creation and "Upload-Length" in fields:
        fields.pop("Upload-Defer-Length", None)
    elif creation:
        fields["Upload-Defer-Length"] = "1"


@schemathesis.hook
def filter_failure(_: Any, failure: Failure, case: Any, response: Any) -> bool:
    """Whether the service is to blame for a failure."""
    # OpenAPI cannot say that PUT stores at every path of one segment; the text of `PUT /` does.
    if isinstance(failure, AllowHeaderMismatch):
        return bool(failure.missing_methods) or set(failure.undocumented_methods) != {"PUT"}
    if isinstance(failure, UnsupportedMethodResponse) and failure.method.upper() == "PUT":
        return bool(response.status_code not in (200, 400, 411, 415, 422))
    # A length that breaks the document in another field is still announced.
    if isinstance(failure, ServerError) and response.status_code == 507:
        announced = case.headers.get("Upload-Length", case.path_parameters.get("size", 0))
        return int(announced) <= 1 << 30
    # Git LFS wants this of a service without locks.
    if isinstance(failure, ServerError) and response.status_code == 501 and "/lock" in case.path:
        return False
    if isinstance(failure, RejectedPositiveData):
        return not rightly_rejected(case, response)
    if isinstance(failure, AcceptedNegativeData):
        return not rightly_accepted(case, response)
    return True


def rightly_rejected(case: Any, response: Any) -> bool:
    """Whether a request that Schemathesis takes for valid is to be refused with this response."""
    # Schemathesis in its coverage phase takes 0 for a valid value of a header field with a pattern.
    if "0" in (case.headers.get(name) for name in ("Repr-Digest", "Content-Digest", "Upload-Checksum")):
        return True
    # As a body of type */* Schemathesis also sends forms: some to PUT, others without a file.
    sent = files(response.request)
    if sent is not None and case.method == "PUT" and response.status_code == 415:
        return True
    if sent not in (None, 1) and response.status_code == 400:
        return True
    told = {} if case.method == "HEAD" else json.loads(response.content)
    # The digest of an upload differs from the one before, or a link would be valid for longer than is set.
    contradiction = "limit" if case.path == "/links" else "expected"
    if told.get("code") == "bad_request" and contradiction in told:
        return True
    # Renewing needs sizes, which lists without it may lack.
    if told.get("reason") == "size" and "renew=true" in response.request.url:
        return True
    # In JSON 1.0 is a whole number, too, and clients of Git LFS do not write that.
    if case.path.startswith("/lfs/") and str(told.get("message")).startswith("size: "):
        return True
    codes = BY_STATE.get(response.status_code, set())
    return bool(codes) and (case.method == "HEAD" or told["code"] in codes)


def rightly_accepted(case: Any, response: Any) -> bool:
    """Whether a request that Schemathesis takes for invalid is to be accepted."""
    hash_ = case.path_parameters.get("hash", "0" * 32)
    if case.method == "PUT" and not re.fullmatch("[0-9a-fA-F]{32,128}", str(hash_)):
        return True
    field = getattr(case.meta.phase.data, "parameter", None)
    places = {ParameterLocation.HEADER, ParameterLocation.QUERY}
    if case.path.startswith("/uploads") and negated(case) <= places:
        ignored = IGNORED["Tus-Resumable" in response.request.headers]
        if field in ignored or field is None and not ignored.isdisjoint(case.headers):
            return True
    # The checksum of a body that is not read, because the upload was there already.
    if case.path == "/uploads" and "Upload-Checksum" in case.headers and response.status_code == 201:
        return True
    # Git LFS tells of each object what is wrong with it.
    if case.path.endswith("/objects/batch") and '"error"' in response.text:
        return True
    # Any JSON value in the place of the file is sent as text, and every text is a file.
    if files(response.request) and negated(case) == {ParameterLocation.BODY}:
        return True
    # Unknown parameters are ignored, as the document says. The check allows that, but misses it
    # when a number, which it sends as text, is among the other parameters.
    scenario = getattr(case.meta.phase.data, "scenario", None)
    return scenario is CoverageScenario.OBJECT_UNEXPECTED_PROPERTIES

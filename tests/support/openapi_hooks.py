"""Hooks that tell Schemathesis what the document cannot express; `openapi.toml` names this module."""

import json
import re
from typing import Any

import requests
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import CoverageScenario
from schemathesis.openapi.checks import AllowHeaderMismatch, RejectedPositiveData, UnsupportedMethodResponse

# Refusals of well-formed requests because of the store's content or of other fields: a condition
# that does not hold, a range beyond the end, bytes that differ from the announced digest.
BY_STATE = {
    412: "precondition_failed",
    416: "range_not_satisfiable",
    422: "digest_mismatch",
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


@schemathesis.hook
def filter_failure(_: Any, failure: Failure, case: Any, response: Any) -> bool:
    """Whether the service is to blame for a failure."""
    # OpenAPI cannot say that PUT stores at every path of one segment; the text of `PUT /` does.
    if isinstance(failure, AllowHeaderMismatch):
        return bool(failure.missing_methods) or set(failure.undocumented_methods) != {"PUT"}
    if isinstance(failure, UnsupportedMethodResponse) and failure.method.upper() == "PUT":
        return bool(response.status_code not in (200, 411))
    if isinstance(failure, RejectedPositiveData):
        return not rightly_rejected(case, response)
    if isinstance(failure, AcceptedNegativeData):
        return not rightly_accepted(case, response)
    return True


def rightly_rejected(case: Any, response: Any) -> bool:
    """Whether a request that Schemathesis takes for valid is to be refused with this response."""
    # Schemathesis in its coverage phase takes 0 for a valid value of a header field with a pattern.
    if "0" in (case.headers.get("Repr-Digest"), case.headers.get("Content-Digest")):
        return True
    # As a body of type */* Schemathesis also sends forms: some to PUT, others without a file.
    sent = files(response.request)
    if sent is not None and case.method == "PUT" and response.status_code == 415:
        return True
    if sent not in (None, 1) and response.status_code == 400:
        return True
    code = BY_STATE.get(response.status_code)
    return code is not None and (case.method == "HEAD" or json.loads(response.content)["code"] == code)


def rightly_accepted(case: Any, response: Any) -> bool:
    """Whether a request that Schemathesis takes for invalid is to be accepted."""
    hash_ = case.path_parameters.get("hash", "0" * 32)
    if case.method == "PUT" and not re.fullmatch("[0-9a-fA-F]{32,128}", str(hash_)):
        return True
    # Any JSON value in the place of the file is sent as text, and every text is a file.
    if files(response.request) == 1 and negated(case) == {ParameterLocation.BODY}:
        return True
    # Unknown parameters are ignored, as the document says. The check allows that, but misses it
    # when a number, which it sends as text, is among the other parameters.
    scenario = getattr(case.meta.phase.data, "scenario", None)
    return scenario is CoverageScenario.OBJECT_UNEXPECTED_PROPERTIES

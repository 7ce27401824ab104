"""Hooks with which Schemathesis signs requests to a Blossom server; `blossom.toml` names this module."""

import hashlib
from typing import Any

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import CoverageScenario
from schemathesis.openapi.checks import AllowHeaderMismatch, RejectedPositiveData

from tests.support.nostr import MINE, OTHERS, allowing

# Refusals of well-formed requests because of the store's content or of other fields.
BY_STATE = {404, 409, 412, 415, 416}


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any) -> None:
    """Sign for what is asked; every eighth request with a key that may only read."""
    if getattr(case.meta.phase.data, "parameter", None) == "Authorization":
        return  # what happens without it is tried
    verb = "upload" if case.path == "/upload" else "delete" if case.method == "DELETE" else "get"
    body = case.body if isinstance(case.body, bytes) else str(case.body).encode()
    hash_ = case.path_parameters.get("hash") or case.headers.get("X-SHA-256")
    hash_ = hash_ or hashlib.sha256(body).hexdigest()
    key = OTHERS if len(str(case.headers)) % 8 == 0 else MINE
    case.headers.update(allowing(verb, str(hash_), key=key))


@schemathesis.hook
def filter_failure(_: Any, failure: Failure, case: Any, response: Any) -> bool:
    """Whether the service is to blame for a failure."""
    # A blob is deleted under any extension, also under that of metalinks.
    if isinstance(failure, AllowHeaderMismatch) and case.path.endswith(".meta4"):
        return bool(failure.missing_methods) or set(failure.undocumented_methods) != {"DELETE"}
    if isinstance(failure, RejectedPositiveData):
        return response.status_code not in BY_STATE | {403}
    if isinstance(failure, AcceptedNegativeData):
        negated = {place for place in case.meta.components if case.meta.is_negative_at(place)}
        parameter = getattr(case.meta.phase.data, "parameter", None)
        scenario = getattr(case.meta.phase.data, "scenario", None)
        # A malformed Range is ignored (RFC 9110 section 14.2), as are unknown parameters; every extension is
        # one, and whatever is sent in the place of a file is a file.
        ignored = parameter == "extension" or "Range" in case.headers or negated <= {ParameterLocation.BODY}
        return not ignored and scenario is not CoverageScenario.OBJECT_UNEXPECTED_PROPERTIES
    return True

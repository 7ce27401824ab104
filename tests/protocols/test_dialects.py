"""Which dialect a request is in."""

from webtest import TestApp

from wsgi_store.web.application import Application


def test_fields_of_tus_in_the_draft(application: Application) -> None:
    """A request of the draft may have fields of tus, as tus-js-client sends them, but not its version."""
    api = TestApp(application, lint=False)
    fields = {"Upload-Complete": "?0", "Upload-Draft-Interop-Version": "6"}
    fields |= {"Upload-Metadata": "filename YQ==", "Upload-Defer-Length": "1"}
    answer = api.post("/uploads", headers=fields, status=201)
    assert answer.headers["Upload-Complete"] == "?0" and "Tus-Resumable" not in answer.headers
    answer = api.post("/uploads", headers={**fields, "Tus-Resumable": "1.0.0"}, status=201)
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    del fields["Upload-Complete"], fields["Upload-Draft-Interop-Version"]
    assert api.post("/uploads", headers=fields, status=412).json["code"] == "unsupported_version"

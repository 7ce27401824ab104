"""Parsing of hosts and origins."""

import pytest

from wsgi_store.authority import authority_of, parse_authority, parse_origin

AUTHORITIES = {
    "a": ("a", None),
    "Store.Example.ORG": ("store.example.org", None),
    "store.example.org.": ("store.example.org.", None),
    "a:80": ("a", 80),
    "a:": ("a", None),
    "a:00080": ("a", 80),
    "a:0": ("a", 0),
    "a:65535": ("a", 65535),
    "127.0.0.1:8000": ("127.0.0.1", 8000),
    "[::1]": ("[::1]", None),
    "[::1]:8000": ("[::1]", 8000),
    "[::FFFF:127.0.0.1]": ("[::ffff:127.0.0.1]", None),
    "[v1.fe80::a+en1]:80": ("[v1.fe80::a+en1]", 80),
    "under_score": ("under_score", None),
    "a%20b": ("a%20b", None),
    "a~!$&'()*+;=b": ("a~!$&'()*+;=b", None),
}
NO_AUTHORITIES = [
    *["", " ", ":", ":80", "a b", " a", "a ", "a\tb", "a@b", "a:b@c", "@", "user:secret@a:80"],
    *["a:80x", "a:x", "a:-1", "a:+1", "a: 80", "a:65536", "a:999999", "a::", "a:80:80", "a:8\u0660"],
    *["[::1", "::1", "[::1]]", "[]", "[1]", "[::g]", "[::1]x", "[::1]80", "[fe80::1%25eth0]", "x[::1]"],
    *["[1.2.3.4]", "[v.a]", "[vx.a]", "[v1.]", "[v1.[]"],
    *["a/b", "a?b", "a#b", "http://a", "a\\b", "a%", "a%2", "a%zz", "a,b", "a, b", "a,a", 'a"b', "a<b>"],
    *["ä", "a\x00", "a\n", "a\r", "a\x7f", "a\x80", "a^b", "a|b", "a`b", "a{b}"],
    *["a" * 513, "%20" * 200, "a:" + "0" * 600],
]


@pytest.mark.parametrize("text", AUTHORITIES)
def test_an_authority(text: str) -> None:
    """A host is returned in lower case, with its port as a number if there is one."""
    assert parse_authority(text) == AUTHORITIES[text]


@pytest.mark.parametrize("text", NO_AUTHORITIES)
def test_no_authority(text: str) -> None:
    """A host that violates RFC 3986, an invalid port or a list of hosts is rejected."""
    with pytest.raises(ValueError):
        parse_authority(text)


@pytest.mark.parametrize(
    "text, origin",
    [
        ("http://a", ("http", "a", 80)),
        ("HTTPS://A", ("https", "a", 443)),
        ("https://a:443", ("https", "a", 443)),
        ("http://a:443", ("http", "a", 443)),
        ("http://[::1]:8000", ("http", "[::1]", 8000)),
        ("capacitor://localhost", ("capacitor", "localhost", None)),
    ],
)
def test_an_origin(text: str, origin: tuple[str, str, int | None]) -> None:
    """An origin is a scheme, a host and a port; http and https have default ports."""
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    ["", "null", "*", "a", "//a", "://a", "http:a", "http://", "http://a/", "http://a/b", "http://a?b"]
    + ["http://a@b", "http://a:x", "http://a, http://a", "1http://a", "http://a#", "http://*.a,b"],
)
def test_no_origin(text: str) -> None:
    """An origin with missing or additional parts is rejected."""
    with pytest.raises(ValueError):
        parse_origin(text)


@pytest.mark.parametrize(
    "target, authority",
    [
        ("/", None),
        ("//a/b", None),
        ("/http://a/", None),
        ("*", None),
        ("", None),
        ("a:80", None),
        ("http://a@b/c?d", "a@b"),
        ("http://a", "a"),
        ("http:///c", ""),
        ("HTTP://a:1?b", "a:1"),
    ],
)
def test_the_authority_of_a_target(target: str, authority: str | None) -> None:
    """Only a target in absolute form contains an authority."""
    assert authority_of(target) == authority

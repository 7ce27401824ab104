"""Headers of members of a tar archive (POSIX.1-2017, pax, section "ustar Interchange Format")."""

BLOCK = 512
END = bytes(2 * BLOCK)
# The largest values of fields of a header; a record of an extended header takes their place.
LONGEST_NAME = 100
MAX_SIZE = (1 << 33) - 1

_MODE_TO_OWNER = b"0000444\0" + b"0000000\0" * 2
_TIME = b"00000000000\0"
_REST = bytes(100) + b"ustar\0" + b"00" + bytes(64) + b"0000000\0" * 2
_REST += bytes(BLOCK - 100 - len(_MODE_TO_OWNER) - 12 - len(_TIME) - 8 - 1 - len(_REST))
FILE, EXTENDED = b"0", b"x"
# What all headers have in common, with the eight blanks that stand for the sum of all bytes.
_CONSTANT = sum(_MODE_TO_OWNER + _TIME + _REST) + 8 * ord(" ")


def header(name: str, size: int) -> bytes:
    """Return the header of a file that everybody may read, without a time; `name` is ASCII."""
    extended = b""
    if len(name) > LONGEST_NAME or size > MAX_SIZE:
        records = _record("path", name) + _record("size", str(size))
        extended = _header("PaxHeader", len(records), EXTENDED) + records + padding(len(records))
        name, size = name[:LONGEST_NAME], min(size, MAX_SIZE)
    return extended + _header(name, size, FILE)


def padding(size: int) -> bytes:
    """Return what follows the bytes of a file of this size."""
    return bytes(-size % BLOCK)


def _header(name: str, size: int, kind: bytes) -> bytes:
    field, length = name.encode(), b"%011o\0" % size
    total = _CONSTANT + sum(field) + sum(length) + kind[0]
    return b"".join((field.ljust(100, b"\0"), _MODE_TO_OWNER, length, _TIME, b"%06o\0 " % total, kind, _REST))


def _record(keyword: str, value: str) -> bytes:
    """Return a record of an extended header, which begins with its own length."""
    rest = f" {keyword}={value}\n"
    length = len(rest)
    while length != len(text := f"{length}{rest}"):
        length = len(text)
    return text.encode()

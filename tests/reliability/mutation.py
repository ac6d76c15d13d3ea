"""Changes to the bytes of a file: what disks, transfers, tools and people do to it, and what none of them would."""

from hypothesis import strategies as st

Edit = tuple[str, int, int]  # what, where (of 65536 parts of the file), how

KINDS = ("flip", "set", "cut", "repeat", "insert", "number", "truncate", "swap")
# Words that mean something to one parser or another.
TOKENS = (
    *(b"nan", b"NaN", b"inf", b"-Infinity", b"1e400", b"-1", b"0", b"1e-320", b"99999999999999999999", b"1" * 5000),
    *(b"", b" ", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\n", b"\r\n", b"\t", b"\xe2\x80\xa8", b"&amp;", b"&lol;"),
    *(b"<", b"</", b"<!DOCTYPE a>", b"<!--", b"<![CDATA[", b"{", b"}", b"[" * 3000, b"]", b'"', b"'", b",", b":"),
    *(b"null", b"true", b"false", b"../../../etc/passwd", b"/dev/zero", b"C:\\", b"%s", b"\\u0000", b"\\ud800"),
    *(b"!!python/object/apply:os.system ['true']", b"*a", b"&a [*a]", b"? ", b"- ", b"~", b"2001-01-01", b"0x10"),
)

edits = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 65535), st.integers(0, 255)), min_size=1, max_size=5)


def mutate(data: bytes, changes: list[Edit]) -> bytes:
    """`data` with the edits made one after another."""
    for kind, place, how in changes:
        data = _edit(data, kind, place * len(data) // 65536, how)
    return data


def _edit(data: bytes, kind: str, at: int, how: int) -> bytes:
    token = TOKENS[how % len(TOKENS)]
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ (1 << how % 8)]) + data[at + 1 :] if data else data
    if kind == "set":
        return data[:at] + bytes([how]) + data[at + 1 :]
    if kind == "cut":
        return data[:at] + data[at + how :]
    if kind == "repeat":
        return data[: at + how] + data[at:]
    if kind == "insert":
        return data[:at] + token + data[at:]
    if kind == "number":
        return _replace_number(data, at, token)
    if kind == "truncate":
        return data[:at]
    other = how * len(data) // 256
    first, second = sorted((at, other))
    return data[second:] + data[first:second] + data[:first]


def _replace_number(data: bytes, at: int, token: bytes) -> bytes:
    """Put a token in the place of the next run of digits."""
    start = next((place for place in range(at, len(data)) if data[place : place + 1].isdigit()), len(data))
    end = next((place for place in range(start, len(data)) if not data[place : place + 1].isdigit()), len(data))
    return data[:start] + token + data[end:]

"""A JSON file read in parts gives what `json.loads` gives, errors too."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ssd.data.formats import json_parts
from ssd.data.formats.json_parts import read_parts

LISTS = ("images", "annotations")
GOOD = (
    '{"info": {"a": [1, 2]},\n "images": [{"id": 1, "file_name": "é€.jpg"},\n {"id": 2}],\n'
    ' "annotations": [ {"id": 3, "bbox": [1.5, 2, 3e2, -4]} , 5, "x", [1]], "z": 1e+2, "images": [] }\n'
)
PIECES = [
    '"images": [',
    '"annotations"',
    '{"id": 1}',
    "}",
    "]",
    ",",
    ":",
    '"',
    "\n",
    "tru",
    "1",
    ".5",
    "\x01",
    "\ud800",
]


def whole(path):
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        return str(error)
    return found if isinstance(found, dict) else {}


def joined(path):
    found = {}
    try:
        for key, value, is_first in read_parts(path, LISTS):
            found[key] = value if is_first else found[key] + value
    except (ValueError, RecursionError) as error:
        return str(error)
    return found


@given(
    st.sampled_from([GOOD, GOOD, "", "[1]", '{"images": [1, 2'])
    | st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.sampled_from(["", *PIECES])), max_size=2),
    st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32-be"]),
    st.none() | st.tuples(st.integers(0, 300), st.binary(max_size=1)),
    st.sampled_from([4, 5, 7, 16, 64, 4096]),
)
@example(GOOD, [], "utf-8", (230, b"\xff"), 16)  # a syntax error, and behind it what is no text
@example('{"images": [' + "1" * 5000 + "]}", [], "utf-8", None, 64)  # too many digits
@example('{"images": [{"a": "' + "b" * 500, [], "utf-8", None, 16)
def test_parts_make_the_whole_and_errors_are_the_same(tmp_path_factory, text, edits, encoding, damage, at_once):
    for place, length, new in edits:
        text = text[:place] + new + text[place + length :]
    data = text.encode(encoding, "surrogatepass")
    if damage is not None:
        data = data[: damage[0]] + damage[1] + data[damage[0] + 1 :]
    path = tmp_path_factory.getbasetemp() / "parts.json"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_parts, "_AT_ONCE", at_once)
        assert repr(joined(path)) == repr(whole(path))  # repr: NaN


def test_a_long_list_comes_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(json_parts, "_AT_ONCE", 100)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [{"id": number} for number in range(100)], "x": [1, 2]}))
    parts = list(read_parts(path, LISTS))
    assert [entry["id"] for part in parts[:-1] for entry in part.value] == list(range(100))
    assert len(parts) > 10
    assert parts[-1] == ("x", [1, 2], True)

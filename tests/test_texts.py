"""Text and JSON of any origin: read, or refused for one reason."""

import os

import pytest

from trpts.texts import parse_json, read_json, read_text, unfit


def test_what_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b'\xef\xbb\xbf[1, 2.5, null, "\xc3\xa9"]\n')
    assert read_text(tmp_path / "a").startswith("[1")
    assert read_json(tmp_path / "a") == [1, 2.5, None, "é"]
    assert parse_json("18446744073709551615") == 2**64 - 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe{}", "byte 0 is not UTF-8"),
        (b'{"a": "\xe9"}', "byte 7 is not UTF-8"),
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"[1] [2]", "Extra data"),
        (b"NaN", "the number NaN is not finite"),
        (b"[-Infinity]", "the number -Infinity is not finite"),
        (b"[1e999]", "the number 1e999 is not finite"),
        (b"18446744073709551616", "needs more than 64 bits"),
        (b"9" * 5000, "the number 9{30} needs more than 64 bits"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
    ],
)
def test_what_is_no_json(tmp_path, content, says):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=says):
        read_json(tmp_path / "a")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises(ValueError, match="no regular file"):
            read_text(path)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "nothing")


def test_fit():
    schema = {"properties": {"n": {"type": "integer"}}, "type": "object"}
    assert unfit({"n": 3}, schema) is None
    assert unfit({"n": 3.0}, schema) == ("n", "3.0 is not of type 'integer'")
    assert unfit([], schema) == ("all", "[] is not of type 'object'")
    deep = []
    for _ in range(5000):
        deep = [deep]
    nested = {"$defs": {"l": {"items": {"$ref": "#/$defs/l"}}}, "$ref": "#/$defs/l"}
    assert unfit(deep, nested) == ("all", "it is nested too deeply")

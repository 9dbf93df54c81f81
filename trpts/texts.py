"""Text files that may come from anywhere, JSON among them: read, or refused for one stated reason.

Reasons do not name the file: the caller does, and says what was expected there.
"""

import json
import math
import stat
from pathlib import Path
from typing import Any

import jsonschema

MOST_BITS = 64  # what a whole number fits into, with or without a sign
# JSON Schema takes 3.0 for an integer and NaN for a number; Python's range() and comparisons do
# not.
_TYPES = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
    {
        "integer": lambda _, x: type(x) is int,
        "number": lambda _, x: type(x) is int or (type(x) is float and math.isfinite(x)),
    }
)
_Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=_TYPES)


def read_text(path: str | Path) -> str:
    """The text of a regular file of UTF-8, without a byte order mark.

    raises  FileNotFoundError; OSError: it cannot be opened; ValueError: a folder, a pipe (which
            would be waited for, for ever), other bytes than UTF-8
    """
    path = Path(path)
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no regular file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"its byte {error.start} is not UTF-8 text") from error


def read_json(path: str | Path) -> Any:
    """What a file of JSON holds; raises as `read_text` and `parse_json`."""
    return parse_json(read_text(path))


def parse_json(text: str | bytes, **options: Any) -> Any:
    """What a text of JSON says; options as of `json.loads`.

    raises  ValueError: no JSON, nested too deeply, numbers that are not finite or need more than 64
            bits
    """
    options = {"parse_int": _whole, "parse_float": _real, "parse_constant": _real} | options
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def unfit(value: Any, schema: dict[str, Any]) -> tuple[str, str] | None:
    """(where, what is wrong there) of a value that does not fit a JSON Schema; None if it does.

    3.0 is no integer here, and NaN no number.
    """
    try:
        error = jsonschema.exceptions.best_match(_Validator(schema).iter_errors(value))
    except RecursionError:
        return "all", "it is nested too deeply"
    return error and ("/".join(map(str, error.absolute_path)) or "all", error.message)


def capped(text: object, length: int = 200) -> str:
    """A text from a file, for a message: of limited length, without terminal control characters."""
    text = str(text)
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:length])
    return shown if len(text) <= length else f"{shown}… ({len(text):,} characters)"


def _whole(digits):
    if len(digits) > 20 or int(digits).bit_length() > MOST_BITS:
        raise ValueError(f"the number {digits[:30]} needs more than {MOST_BITS} bits")
    return int(digits)


def _real(digits):
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"the number {digits[:30]} is not finite")
    return number

"""A chapter's parameters: read from the command line, and held against the notebook's defaults.

What a notebook is given reaches its cells as it is. A number that was read as a text, or a count
that is 0.5, would end there in an error of some library, after minutes of other cells, or in
nothing but other results.
"""

import math

from trpts.errors import TrptsError
from trpts.options import repeated
from trpts.texts import capped
from trpts_lab.yaml12 import parse_yaml

LONGEST = 2000  # PyYAML takes seconds for some thousand brackets
KINDS = {
    bool: "true or false",
    int: "a whole number of at most 64 bits",
    float: "a finite number",
    str: "a text",
    list: "a list",
    dict: "a table",
}


def read_parameter(text):
    """(name, value) of NAME=VALUE, the value in YAML; TrptsError: it is not readable."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise TrptsError(f"--parameter {capped(text)!r}: expected NAME=VALUE")
    try:
        if len(value) > LONGEST:
            raise ValueError(f"it is longer than {LONGEST} characters")
        return name, parse_yaml(value, aliases=False)
    except ValueError as error:
        raise TrptsError(
            f"--parameter {capped(name)}: {capped(value, 60)!r} is not readable: {error}"
        ) from error


def fitted(value, default, may_be_none=False):
    """`value`, where it is of the default's kind: whole numbers become floats where that is one.

    Lists and tables hold plain values of the kind that the default's are of, lists none twice. A
    default of None tells no kind: any of these will do.
    may_be_none  whether None is a value beside another default
    raises       ValueError: what is expected, and what was found
    """
    if value is None and (default is None or may_be_none):
        return None
    kind = type(value if default is None else default)
    if kind not in (list, dict):
        return _plain(value, kind)
    if type(value) is not kind:
        raise _unfit(value, kind)
    inner = {type(x) for x in (default.values() if kind is dict else default or ())}
    like = inner.pop() if len(inner) == 1 else None
    if kind is dict:
        return {name: _plain(x, like or type(x)) for name, x in value.items()}
    if default and not value:
        raise ValueError("it is empty: expected at least one")
    if (again := repeated(value)) is not None:
        raise ValueError(f"{capped(repr(again), 60)} stands there twice: expected it once")
    return [_plain(x, like or type(x)) for x in value]


def _plain(value, kind):
    """`value`, a number or text of that kind; ValueError for another."""
    if kind is float and type(value) is int and abs(value) < 2**63:
        value = float(value)
    fits = (
        type(value) is kind
        and kind in (bool, int, float, str)
        and not (kind is int and abs(value) >= 2**63)
        and not (kind is float and not math.isfinite(value))
        and not (kind is str and not value.isprintable())
    )
    if not fits:
        raise _unfit(value, kind)
    return value


def _unfit(value, kind):
    expected = KINDS.get(kind, "a number or a text")
    hint = ", in quotes" if kind is str and isinstance(value, int | float) else ""
    return ValueError(f"{capped(repr(value), 60)}: expected {expected}{hint}")

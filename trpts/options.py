"""Options, of functions and of the command line: numbers in their bounds, no value twice, one
sentence for a fault.

Bounds keep a number inside what the code behind it can take, 64 bits for one. They are wide: what
only the model or the data can tell is checked there.
"""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, NoReturn

from trpts.errors import TrptsError

MOST = 2**31 - 1  # of counts
SEEDS = 2**32 - 1  # torch, NumPy and scikit-learn all take these
LARGEST_RATE = 1000.0  # Adam moves every weight by about the rate in each step


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        """Raise a TrptsError, which the command line prints."""
        raise TrptsError(f"{message.removeprefix('argument ')}; see `{self.prog} --help`")


class Different(argparse.Action):
    """Several values, none of them twice: it would count twice, or be passed over in silence."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Keep the values."""
        if (again := repeated(values)) is not None:
            raise argparse.ArgumentError(self, f"{again} is named twice: expected it once")
        setattr(namespace, self.dest, values)


def repeated(values: Sequence[Any]) -> Any:
    """The first value that was there before, or None."""
    return next((x for n, x in enumerate(values) if x in values[:n]), None)


def check_whole(name: str, value: Any, least: int = 1, most: int = MOST) -> None:
    """Raise ValueError, naming the option, unless `value` is a whole number from `least` on."""
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not (is_whole and least <= value <= most):
        raise ValueError(f"{name}={_shown(value)}: expected a whole number from {least} to {most}")


def check_real(name: str, value: Any, least: float, most: float, above: bool = False) -> None:
    """Raise ValueError, naming the option, unless `value` is a number so bounded."""
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    if not (is_real and least <= value <= most) or (above and value == least):
        raise ValueError(f"{name}={_shown(value)}: expected a number {_bounds(least, most, above)}")


def whole(least: int = 1, most: int = MOST) -> Callable[[str], int]:
    """For argparse: a whole number from `least` to `most`."""

    def read(text: str) -> int:
        number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text) else None
        if number is None or not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {least} to {most}, found {_shown(text)}"
            )
        return number

    return read


def real(least: float, most: float, above: bool = False) -> Callable[[str], float]:
    """For argparse: a number from `least` (`above`: only above it) to `most`."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least <= number <= most or (above and number == least):
            raise argparse.ArgumentTypeError(
                f"expected a number {_bounds(least, most, above)}, found {_shown(text)}"
            )
        return number

    return read


def filled(given: str) -> str:
    """For argparse: a name or an address, which cannot be empty."""
    if not given.strip():
        raise argparse.ArgumentTypeError("expected a name, found an empty one")
    return given


def _bounds(least, most, above):
    return f"above {least:g} and at most {most:g}" if above else f"from {least:g} to {most:g}"


def _shown(value):
    if isinstance(value, str):
        return repr(value if len(value) <= 50 else f"{value[:50]}…")
    return f"{value!r:.50}"

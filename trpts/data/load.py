"""One door to every task: by name."""

import difflib

from trpts.data import digits
from trpts.data.twins import TWINS


def load_task(name, image_size=32):
    """The Task of a name: a twin's, or "digits", the real digits in three channels.

    raises  ValueError: no such task, with those of a similar name
    """
    if name in TWINS:
        return TWINS[name].task()
    if name == "digits":
        return digits.load(image_size=image_size, channels=3)
    near = difflib.get_close_matches(name, ["digits", *TWINS], n=3, cutoff=0.5)
    raise ValueError(f"task {name!r} is unknown" + (f": did you mean {' or '.join(near)}?" if near else ""))

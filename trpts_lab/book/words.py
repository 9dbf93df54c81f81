"""Words that come from records, on pages: only words."""

import re


def plain(text) -> str:
    """A record's own words on one line, for Markdown: nothing in them is formatting, a link, HTML
    or a formula.
    """
    return re.sub(r"([\\`*_\[\]<&$|~])", r"\\\1", " ".join(str(text).split()))

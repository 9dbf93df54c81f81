"""Words that come from records, on pages: only words."""

import re


def plain(text) -> str:
    """A record's words on one Markdown line, without formatting, links, HTML or formulas."""
    return re.sub(r"([\\`*_\[\]<&$|~])", r"\\\1", " ".join(str(text).split()))

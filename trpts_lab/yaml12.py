"""YAML as its version 1.2 reads it, for profiles and parameters: 1e-2 is a number, yes a word.

PyYAML reads version 1.1, to which 1e-2 is a word, 1:30 the number 90, and 2020-01-01 a date. Only
what JSON has is left here, and the merge key << of version 1.1, which profiles use.
"""

import re

import yaml

from trpts.texts import capped

TAG = "tag:yaml.org,2002:"
NULL, BOOL, INT, FLOAT = (TAG + kind for kind in ("null", "bool", "int", "float"))
TEXT, MERGE = TAG + "str", TAG + "merge"
WORDS = {
    NULL: r"~|null|Null|NULL|",
    BOOL: r"true|True|TRUE|false|False|FALSE",
    INT: r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    FLOAT: r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    MERGE: "<<",
}


class _Loader(yaml.SafeLoader):
    """Plain values alone; no key twice."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - as in PyYAML
    yaml_constructors = {  # noqa: RUF012
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "float", "str", "seq", "map")
    }

    def flatten_mapping(self, node):
        keys = [key.value for key, _ in node.value]
        for n, (key, _) in enumerate(node.value):
            if key.tag not in (TEXT, MERGE) or key.value in keys[:n]:
                twice = key.tag in (TEXT, MERGE)
                words = f"the key {key.value} stands twice" if twice else "a key is no text"
                raise yaml.constructor.ConstructorError(problem=words, problem_mark=key.start_mark)
        super().flatten_mapping(node)


def _whole(loader, node):
    text = loader.construct_scalar(node)
    return int(text) if re.fullmatch(r"[-+]?[0-9]+", text) else int(text, 0)


for tag, words in WORDS.items():
    _Loader.add_implicit_resolver(tag, re.compile(f"(?:{words})$"), None)
_Loader.add_constructor(INT, _whole)


def parse_yaml(text, aliases=True):
    """What a text says; `aliases=False`: one that names a part of it by an anchor is refused.

    raises  ValueError: in one sentence, why it is no such YAML
    """
    try:
        if not aliases and any(isinstance(e, yaml.AliasEvent) for e in yaml.parse(text, _Loader)):
            raise ValueError("it refers to a part of itself: expected that part written out")
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{capped(error.problem or error.context)}{where}") from error
    except yaml.YAMLError as error:  # a character that no text holds
        raise ValueError(capped(str(error).splitlines()[0])) from error
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (KeyError, IndexError) as error:  # PyYAML's own, where !!bool stands before no such word
        raise ValueError("a tag stands before what is none of its kind") from error

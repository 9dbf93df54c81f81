"""What the ledger quotes: each quotation was read again, and each quoted number is in the papers'
tables.
"""

import re
import tomllib
from statistics import fmean

import pytest

from trpts_lab import paper
from trpts_lab.claims import account, ledger

# Names and places, whose digits are no results.
NAMES = re.compile(
    r"ViT-B/16|eq\. \d+|tables? \d+( and \d+)?|100 epochs|first version|VTAB-1k|three|eight"
)
NUMBER = re.compile(r"(?<![\w.-])\d+(?:\.\d+)?(?!\w)")
READ = ("yes", "corrected", "nothing", "not at hand")


def numbers_in(text):
    """The numbers of a quotation, as they are written."""
    return NUMBER.findall(NAMES.sub("", text))


def at(path):
    """What `trpts_lab.paper` has at a path such as PLACED.Camelyon.0."""
    name, *keys = path.split(".")
    found = getattr(paper, name)
    for key in keys:
        found = found[key] if isinstance(found, dict) else found[int(key)]
    return found


def value(source):
    """The number that a row's `numbers` names: see data/quotations.toml."""
    word, _, rest = source.partition(" ")
    if word == "loss":
        # names of tasks hold spaces, those of the tables that lose none
        pruned, unpruned = map(at, rest.split(" "))
        return 100 * (1 - pruned / unpruned)
    if word == "percent":
        return 100 * at(rest)
    if word in ("mean", "min", "max"):
        found = at(rest)
        many = found.values() if isinstance(found, dict) else found
        return {"mean": fmean, "min": min, "max": max}[word](many)
    return at(source)


def unlike(quotation, sources):
    """Numbers of a quotation that its sources do not have, or how many there are of each."""
    written = numbers_in(quotation)
    if len(written) != len(sources):
        return [f"{len(written)} numbers, {len(sources)} sources"]
    return [
        f"{number} is {value(source)} at {source}"
        for number, source in zip(written, sources, strict=True)
        if f"{value(source):.{len(number.partition('.')[2])}f}" != number
    ]


@pytest.fixture(scope="module")
def read_again(project):
    """data/quotations.toml."""
    return tomllib.loads((project.root / "data" / "quotations.toml").read_text(encoding="utf-8"))


def test_every_quotation_of_the_ledger_was_read_again(read_again):
    """One that is changed in claims.toml has to be looked up again."""
    statements = ledger.statements()
    assert list(read_again) == list(statements)
    for name, row in read_again.items():
        assert row["quotation"] == statements[name]["paper"], name
        assert row["agrees"] in READ
        assert row["place"]
        assert ("was" in row) == (row["agrees"] == "corrected"), name


def test_every_quoted_number_is_in_the_papers_tables(read_again):
    found = {
        name: wrong
        for name, row in read_again.items()
        if (wrong := unlike(row["quotation"], row.get("numbers", [])))
    }
    assert found == {}
    assert sum(len(row.get("numbers", [])) for row in read_again.values()) > 35


def test_a_wrong_number_is_found():
    sources = ["PLACED.dSprites location.0", "loss LLAVA.High.POPE LLAVA.unpruned.POPE"]
    assert unlike("sparse 87.7, and POPE loses 1.05 %", sources) == []
    assert unlike("sparse 87.8, and POPE loses 1.05 %", sources) == [
        "87.8 is 87.7 at PLACED.dSprites location.0"
    ]
    assert unlike("sparse 87.7", sources) == ["1 numbers, 2 sources"]
    assert numbers_in("LLaVA-1.5-7B and Qwen2.5-VL, table 12, Sun397: +10.35") == ["10.35"]


def is_statement(found):
    return isinstance(found, dict) and "paper" in found


def flat(found):
    """All numbers in nested tables."""
    if isinstance(found, int | float):
        return [found]
    if isinstance(found, dict):
        found = found.values()
    return [] if isinstance(found, str) else [number for one in found for number in flat(one)]


def tables():
    """The numbers of `trpts_lab.paper`: as they stand, and shares in per cent."""
    named = {
        name: found if isinstance(found, dict | tuple) else (found,)
        for name, found in vars(paper).items()
        if name[0].isupper() and name != "GPS_SETTINGS" and not is_statement(found)
    }
    numbers = {float(number) for found in named.values() for number in flat(found)}
    shares = {100 * share for share in (*paper.TRAINED.values(), paper.LORA_TRAINED)}
    depths = {100 * stage / paper.N_LAYERS for stage in paper.STAGES}
    spread = {float(max(paper.MME_BY_LAYERS) - min(paper.MME_BY_LAYERS))}
    return numbers | shares | depths | spread


def without_table(text):
    """Numbers of a text that no table has, to the digits written."""
    known = tables()
    return [
        number
        for number in numbers_in(text)
        if not any(f"{x:.{len(number.partition('.')[2])}f}" == number for x in known)
    ]


def test_statements_and_deviations_quote_the_tables():
    statements = [found["paper"] for found in vars(paper).values() if is_statement(found)]
    says = [row["says"] for row in account.read("deviations.toml")["deviation"]]
    assert len(statements) > 20
    assert {text: wrong for text in statements + says if (wrong := without_table(text))} == {}
    assert without_table("TextVQA 50.9 against 58.3") == ["58.3"]


def test_tables_are_consistent_in_themselves():
    """Means that the sources print follow from their rows, to the last digit."""
    for name, row in paper.FGVC.items():
        assert round(fmean(row), 2) == paper.FGVC_MEANS[name]
    every = {
        name: fmean(number for group in groups for number in group)
        for name, groups in paper.VTAB_ROWS.items()
    }
    assert round(every["GPS"], 2) == paper.VTAB_MEANS["GPS"]
    assert round(every["linear"], 2) == 52.94  # V-PETL Bench prints it
    assert [len(group) for group in paper.VTAB_ROWS["linear"]] == [
        n for _, n in paper.BRIEF_GROUPS.values()
    ]
    full = paper.LLAVA["unpruned"]
    for name, printed in paper.RATIO.items():
        ratio = fmean(paper.LLAVA[name][task] / of for task, of in full.items())
        assert 100 * ratio == pytest.approx(printed, abs=0.06)
    assert max(paper.MME_BY_LAYERS) == paper.LLAVA["High"]["MME"]


def test_what_table_1_says_of_losses():
    """POPE loses most at High, GQA at Low; TextVQA does where transition alone ranks."""
    full = paper.LLAVA["unpruned"]

    def worst(row):
        return min(row, key=lambda task: row[task] / full[task])

    assert worst(paper.LLAVA["High"]) == "POPE"
    assert worst(paper.LLAVA["Low"]) == "GQA"
    assert worst(paper.TTV_ONLY) == "TextVQA"

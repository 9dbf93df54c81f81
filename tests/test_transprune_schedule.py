"""Schedules: the paper's numbers, what the presets cost, other depths, and what is refused."""

from dataclasses import replace
from itertools import product

import pytest

from trpts.transprune import (
    CDPRUNER,
    DIVPRUNE,
    FASTV,
    HIGH,
    LOW_INFERRED,
    PAPER,
    PYRAMIDDROP,
    RELEASED_CODE,
    SPARSEVLM,
    VISIONZIP,
    Schedule,
)
from trpts.transprune.criteria import CRITERIA

ANYWHERE = [name for name, known in CRITERIA.items() if not known.first]


def tera_macs(schedule, n_image, n_layers=32, d=4096, m=11008):
    """Eq. 7 for LLaVA-7B's language model, its small last term aside."""
    ends, counts, total = (*schedule.prune_after, n_layers), [n_image, *schedule.n_kept(n_image)], 0
    for start, end, n in zip((0, *ends), ends, counts, strict=False):
        total += (end - start) * (4 * n * d**2 + 2 * n**2 * d + 3 * n * d * m)
    return total / 1e12


def test_defaults_are_the_papers():
    assert PAPER == HIGH == Schedule()
    assert (PAPER.prune_after, PAPER.accumulate, PAPER.alpha) == (
        (7, 9, 12),
        (7, 8, 9, 10, 11, 12),
        0.5,
    )
    assert PAPER.n_kept(576) == [504, 360, 72]
    assert (PAPER.direction, PAPER.iga_layer, PAPER.normalise) == ("abs", "next", False)
    assert (RELEASED_CODE.direction, RELEASED_CODE.softmax_over, RELEASED_CODE.normalise) == (
        "signed",
        "sequence",
        True,
    )
    assert (RELEASED_CODE.iga, RELEASED_CODE.positions) == ("all_keys", "compact")


@pytest.mark.parametrize(
    ("schedule", "n_image", "published"),
    [
        (HIGH, 576, 1.56),
        (HIGH, 2880, 8.33),
        (LOW_INFERRED, 576, 1.19),
        (LOW_INFERRED, 2880, 6.41),
        (FASTV, 576, 2.01),
        (PYRAMIDDROP, 576, 1.78),
    ],
)
def test_presets_cost_what_the_paper_says(schedule, n_image, published):
    assert round(tera_macs(schedule, n_image), 2) == published


@pytest.mark.parametrize(
    ("schedule", "score", "stages", "counts"),
    [
        (DIVPRUNE, "divprune", (0,), [192]),
        (CDPRUNER, "cdpruner", (0,), [192]),
        (VISIONZIP, "visionzip", (0,), [192]),
        (SPARSEVLM, "sparsevlm", (3, 7, 16), [300, 200, 110]),
    ],
)
def test_rivals_keep_what_their_papers_keep_of_576(schedule, score, stages, counts):
    assert (schedule.scores[0], schedule.prune_after) == (score, stages)
    assert schedule.n_kept(576) == counts
    assert schedule.scaled(30).prune_after == tuple(round(p * 30 / 32) for p in stages)


def test_no_other_sixteenths_cost_as_little_as_low():
    sixteenths = [i / 16 for i in range(1, 17)]
    fits = [
        keep
        for keep in product(sixteenths, repeat=3)
        if keep[0] >= keep[1] >= keep[2]
        and [round(tera_macs(Schedule(keep=keep), n), 2) for n in (576, 2880)] == [1.19, 6.41]
    ]
    assert fits == [LOW_INFERRED.keep]


def test_counts_are_of_the_original_tokens_and_not_fooled_by_binary_fractions():
    assert Schedule((2, 3), (0.29, 0.07), accumulate=(1, 2)).n_kept(100) == [29, 7]
    assert Schedule((2,), (0.999,), accumulate=(1,)).n_kept(10) == [9]


@pytest.mark.parametrize(
    ("stages", "layers"),
    [
        ((5, 7, 10), (5, 6, 7, 8, 9, 10)),
        ((7, 9, 12), (7, 8, 9, 10, 11, 12)),
        ((1, 2, 3), (1, 2, 3)),
        ((2,), (2,)),
        ((14, 20, 31), tuple(range(14, 32))),
        ([3, 6], (3, 4, 5, 6)),
        (range(2, 8, 2), (2, 3, 4, 5, 6)),
    ],
)
@pytest.mark.parametrize("score", [*ANYWHERE, lambda c: c.ttv])
def test_accumulated_layers_follow_the_stages_unless_given(stages, layers, score):
    keep = [0.5] * len(stages)
    schedule = Schedule(prune_after=stages, keep=keep, score=score)
    assert schedule.accumulate == layers
    assert schedule == Schedule(stages, keep, layers, score=score)
    assert schedule == replace(schedule)
    assert Schedule(stages, keep, accumulate=(1,), score=score).accumulate == (1,)
    schedule.check(32)


def test_no_named_schedule_moved():
    """Layers of eq. 4, as they were typed before they followed the stages."""
    layers = {
        HIGH: (7, 8, 9, 10, 11, 12),
        RELEASED_CODE: (7, 8, 9, 10, 11, 12),
        LOW_INFERRED: (7, 8, 9, 10, 11, 12),
        PYRAMIDDROP: (),
        FASTV: (),
    }
    for schedule, wanted in layers.items():
        assert schedule.accumulate == wanted


@pytest.mark.parametrize(
    ("n_layers", "stages", "layers"),
    [
        (32, (7, 9, 12), tuple(range(7, 13))),
        (8, (2, 3, 4), (2, 3, 4)),
        (28, (6, 8, 10), tuple(range(6, 11))),
        (64, (14, 18, 24), tuple(range(14, 25))),
        (4, (1, 2, 3), (1, 2, 3)),
    ],
)
def test_scaled(n_layers, stages, layers):
    scaled = RELEASED_CODE.scaled(n_layers)
    assert (scaled.prune_after, scaled.accumulate) == (stages, layers)
    assert (scaled.keep, scaled.positions) == (RELEASED_CODE.keep, "compact")
    scaled.check(n_layers)


def test_scaled_stays_in_range_at_every_depth():
    late = Schedule((29, 30, 31), (0.5, 0.4, 0.3), accumulate=(2, 29))
    for schedule, n in product((PAPER, PYRAMIDDROP, FASTV, late), range(4, 100)):
        scaled = schedule.scaled(n)  # an unfit one is refused when it is made
        scaled.check(n)
    assert late.scaled(4).prune_after == (1, 2, 3)
    with pytest.raises(ValueError, match="3 stages in 3 layers: expected at least 4"):
        PAPER.scaled(3)
    assert PAPER.scaled(3, distinct=False).prune_after == (1,)
    with pytest.raises(ValueError, match="3 stages in 1 layers: expected at least 2"):
        PAPER.scaled(1, distinct=False)


@pytest.mark.parametrize(
    ("n_layers", "stages", "keep"),
    [
        (32, (7, 9, 12), (0.875, 0.625, 0.125)),
        (30, (7, 8, 11), (0.875, 0.625, 0.125)),
        (8, (2, 3), (0.625, 0.125)),  # 7 / 4 and 9 / 4 are both 2
        (4, (1, 2), (0.625, 0.125)),
    ],
)
def test_scaled_to_the_true_shares_of_the_depth(n_layers, stages, keep):
    scaled = PAPER.scaled(n_layers, distinct=False)
    assert (scaled.prune_after, scaled.keep) == (stages, keep)
    scaled.check(n_layers)


def test_a_stage_before_the_model_stays_there_and_each_has_its_score():
    both = Schedule(
        (0, 7, 9, 12), (0.5, 0.4, 0.3, 0.1), score=("divprune", "transprune", "iga", "ttv")
    )
    assert both.accumulate == (7, 8, 9, 10, 11, 12)
    assert both.scores == both.score
    assert both.scaled(8).prune_after == (0, 2, 3, 4)
    merged = both.scaled(8, distinct=False)
    assert (merged.prune_after, merged.score) == ((0, 2, 3), ("divprune", "iga", "ttv"))
    assert merged.keep == (0.5, 0.3, 0.1)
    assert replace(both, score=list(both.score)) == both  # as a file has it
    assert Schedule((0,), (0.5,), score="visionzip").accumulate == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(prune_after=3), r"prune_after=3: expected several, as in \(7, 9, 12\)"),
        (dict(keep=0.5), "keep=0.5: expected several"),
        (dict(keep=("a", 0.5, 0.1)), "'a' in keep=.* is no number"),
        (dict(alpha="x"), "alpha='x' is no number"),
        (
            dict(prune_after=(7, 7, 9)),
            r"prune_after=\(7, 7, 9\): expected layers from 0, each later",
        ),
        (dict(prune_after=(-1, 7, 9)), "expected layers from 0"),
        (dict(prune_after=(7.5, 9, 12)), "expected layers from 0"),
        (dict(prune_after=(0, 7, 9)), "has no layer up to 0: score='transprune' needs one"),
        (dict(prune_after=(0, 7, 9), accumulate=(0, 1)), "expected layers from 1"),
        (
            dict(prune_after=(0, 7, 9), score="iga", iga_layer="same"),
            "iga_layer='same' behind layer 0: expected 'next'",
        ),
        (dict(score="visionzip"), "score='visionzip' behind layer 7: expected it behind layer 0"),
        (dict(score=("random", "ttv")), r"score=.* has 2 entries: expected 3, one for each"),
        (dict(score=("random", "ttv", "best")), "score='best' is unknown"),
        (dict(normalise="mean"), "normalise='mean' is unknown: expected False or True or rank"),
        (dict(frames="some"), "frames='some' is unknown: expected all or each"),
        (dict(prune_after=(), keep=()), r"prune_after=\(\)"),
        (
            dict(keep=(0.5, 0.6, 0.1)),
            r"keep=\(0.5, 0.6, 0.1\): expected shares .* none larger than before",
        ),
        (dict(keep=(1.1, 0.6, 0.1)), r"expected shares of the image tokens in \(0, 1\]"),
        (dict(keep=(0.5, 0.1, 0)), r"expected shares of the image tokens in \(0, 1\]"),
        (dict(keep=(0.5, 0.25)), r"has 2 entries: expected 3, one for each of \(7, 9, 12\)"),
        (dict(accumulate=(8, 9)), r"has no layer up to 7: score='transprune' needs one"),
        (dict(accumulate=(9, 7)), r"accumulate=\(9, 7\): expected layers from 1"),
        (dict(alpha=1.5), r"alpha=1.5: expected a weight in \[0, 1\]"),
        (dict(seed=-1), "seed=-1: expected a whole number from 0"),
        (dict(direction="cos"), "direction='cos' is unknown: expected abs or signed"),
        (dict(softmax_over="batch"), "expected image or sequence"),
        (dict(iga="keys"), "expected image_keys or all_keys|expected all_keys or image_keys"),
        (dict(iga_layer="last"), "expected next or same"),
        (dict(positions="drop"), "expected keep or compact"),
        (
            dict(score="best"),
            "score='best' is unknown: expected one of transprune, ttv, .*, or a function",
        ),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**options)


def test_check_against_the_depth():
    with pytest.raises(
        ValueError, match=r"prune_after=\(7, 9, 12\) in 12 layers: .* Schedule.scaled\(12\) makes"
    ):
        PAPER.check(12)
    PAPER.check(13)
    with pytest.raises(ValueError, match=r"accumulate=\(2, 9\): expected layers from 1 to 8"):
        Schedule((2,), (0.5,), accumulate=(2, 9)).check(8)

"""Scores of image tokens: each equation by hand, and what becomes of padding, zeros and half
precision.
"""

import math

import pytest
import torch

from trpts.transprune import Schedule, guided_attention, transition_variation, weighted
from trpts.transprune.criteria import CRITERIA, Candidates

E1 = math.exp(1)


def tokens(*rows):
    return torch.tensor([rows], dtype=torch.float32)


# Before: (1, 0) (2, 0) (0, 1); after: (3, 0) (0, 4) (0, −2). m = 3, 2, 2; d = 1, 0, −1
BEFORE, AFTER = tokens([1, 0], [2, 0], [0, 1]), tokens([3, 0], [0, 4], [0, -2])


def test_transition_variation_by_hand():
    """1 − |d| = 0, 1, 0: softmax 1, e, 1 over e + 2. 1 − d = 0, 1, 2: softmax 1, e, e²."""
    wanted = torch.tensor([[3.0, 2 * E1, 2.0]]) / (E1 + 2)
    torch.testing.assert_close(transition_variation(BEFORE, AFTER), wanted)
    wanted = torch.tensor([[3.0, 2 * E1, 2 * E1**2]]) / (1 + E1 + E1**2)
    torch.testing.assert_close(transition_variation(BEFORE, AFTER, direction="signed"), wanted)


def test_domain_is_what_the_softmax_runs_over():
    """Without the third token: 1 and e over 1 + e, and 0 outside; what it holds does not matter,
    NaN included.
    """
    domain = torch.tensor([[True, True, False]])
    wanted = torch.tensor([[3.0, 2 * E1, 0.0]]) / (1 + E1)
    for last in (AFTER[0, 2], torch.tensor([torch.nan, 1.0]), torch.tensor([1e30, 1e30])):
        after = AFTER.clone()
        after[0, 2] = last
        torch.testing.assert_close(transition_variation(BEFORE, after, domain=domain), wanted)


def test_an_unmoved_token_keeps_its_share():
    """T_out = T_in: m = 1, d = 1, softmax 1 / N; and rows do not see each other."""
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(transition_variation(x, x), torch.full((2, 5), 0.2))
    y = torch.randn(2, 5, 8)
    both = transition_variation(x, y)
    torch.testing.assert_close(both[1:], transition_variation(x[1:], y[1:]))


def test_zeros_give_finite_scores_and_half_precision_is_summed_in_float32():
    zero = tokens([0, 0], [1, 0])
    for pair in ((zero, zero), (zero, AFTER[:, :2]), (AFTER[:, :2], zero)):
        assert transition_variation(*pair).isfinite().all()
    # the square of its norm is beyond float16
    big = 200 * torch.ones(1, 2, 64, dtype=torch.float16)
    scores = transition_variation(big, big / 2)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, torch.full((1, 2), 0.25))


# One head, d = 1: query j of the last two places, keys ln 1, ln 2, ln 3, ln 4 behind each other;
# places 1, 2 are image
K = torch.tensor([1.0, 2.0, 3.0, 4.0]).log().view(1, 1, 4, 1)
IMAGE = torch.tensor([[False, True, True, False]])
ALL = torch.ones(1, 4, dtype=torch.bool)


def attended(iga, queries=(True, True), keys=ALL, q=(1.0, 1.0), scaling=1.0):
    q = torch.tensor(q).view(1, 1, 2, 1)
    return guided_attention(q, K, torch.tensor([queries]), keys, IMAGE, scaling, iga)


def test_guided_attention_by_hand():
    """Weights 1 2 3 (4): the third place sees 2/6 3/6 of the image, the fourth 2/10 3/10; the image
    alone 2/5 3/5.
    """
    torch.testing.assert_close(attended("all_keys"), torch.tensor([[0, 8 / 30, 12 / 30, 0]]))
    torch.testing.assert_close(attended("image_keys"), torch.tensor([[0, 0.4, 0.6, 0]]))
    torch.testing.assert_close(
        attended("all_keys", queries=(False, True)), torch.tensor([[0, 0.2, 0.3, 0]])
    )


def test_guided_attention_scales_skips_padding_and_averages_heads():
    """Scaled by 2 the weights are squares: 1 4 9 16. Without place 0: 2/5 3/5 and 2/9 3/9. Two
    heads: the mean.
    """
    wanted = torch.tensor([[0, 4 / 30, 9 / 30, 0]])
    torch.testing.assert_close(attended("all_keys", queries=(False, True), scaling=2.0), wanted)
    padded = torch.tensor([[False, True, True, True]])
    wanted = torch.tensor([[0, (2 / 5 + 2 / 9) / 2, (3 / 5 + 3 / 9) / 2, 0]])
    torch.testing.assert_close(attended("all_keys", keys=padded), wanted)
    # head 1 looks everywhere alike: 1/4 each; both share the key head
    q = torch.tensor([[[[1.0]], [[0.0]]]])
    wanted = torch.tensor([[0, (0.2 + 0.25) / 2, (0.3 + 0.25) / 2, 0]])
    found = guided_attention(q, K, torch.tensor([[True]]), ALL, IMAGE, 1.0, "all_keys")
    torch.testing.assert_close(found, wanted)


def test_guided_attention_does_not_see_what_comes_later():
    """A query on the first image token (place 1 of 4) sees that one alone, however large the later
    key.
    """
    q = torch.ones(1, 1, 3, 1)
    found = guided_attention(
        q, K, torch.tensor([[True, False, False]]), ALL, IMAGE, 1.0, "image_keys"
    )
    torch.testing.assert_close(found, torch.tensor([[0.0, 1.0, 0.0, 0.0]]))


def combine(*parts, **options):
    return sum(weighted(*parts, **options).values())


def test_combine_by_hand():
    """α = 1/4 of (6, 2) and (1, 3): 1.5 + .75, .5 + 2.25; normalised (3/4, 1/4) and (1/4, 3/4):
    3/8, 5/8.
    """
    ttv, iga = torch.tensor([[6.0, 2.0]]), torch.tensor([[1.0, 3.0]])
    torch.testing.assert_close(combine(ttv, iga, 0.25), torch.tensor([[2.25, 2.75]]))
    torch.testing.assert_close(
        combine(ttv, iga, 0.25, normalise=True), torch.tensor([[0.375, 0.625]])
    )
    # α = 1/2, the paper's
    torch.testing.assert_close(combine(ttv, iga), torch.tensor([[3.5, 2.5]]))
    assert torch.equal(combine(ttv * 0, iga * 0, normalise=True), torch.zeros(1, 2))


def test_ranks_by_hand():
    """TTV 4, 9, 4: 1/2, 1, 0 (of equals the first is higher); IGA 3, 1, 2: 1, 0, 1/2. Of two
    groups each has ranks of its own, and scales say nothing.
    """
    image = torch.tensor([[True, True, True, False]])
    iga = torch.tensor([[3.0, 1.0, 2.0, 0.0]])
    for group, ttv, wanted in (
        ([0, 0, 0, 0], [4.0, 9.0, 4.0, 0.0], [[0.5, 1.0, 0.0, 0.0], [1.0, 0.0, 0.5, 0.0]]),
        ([0, 0, 0, 0], [4e3, 9e3, 4e3, 0.0], [[0.5, 1.0, 0.0, 0.0], [1.0, 0.0, 0.5, 0.0]]),
        ([0, 1, 1, 0], [4.0, 9.0, 4.0, 0.0], [[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]]),
    ):
        c = Candidates(
            schedule=Schedule((2,), (0.5,), normalise="rank"),
            image=image,
            group=torch.tensor([group]),
            ttv=torch.tensor([ttv]),
            attention=lambda queries: iga,
            **dict.fromkeys(("hidden", "index", "instruction", "raters", "n_keep", "norm")),
            **dict.fromkeys(("ids", "relevant")),
        )
        CRITERIA["transprune"].function(c)
        for name, ranks in zip(("ttv", "iga"), wanted, strict=True):
            torch.testing.assert_close(2 * c.parts[name], torch.tensor([ranks]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: transition_variation(BEFORE, AFTER, "cosine"),
            "direction='cosine' is unknown: expected abs or sig",
        ),
        (
            lambda: transition_variation(BEFORE, AFTER[:, :2]),
            r"\[1, 3, 2\] before, \[1, 2, 2\] after",
        ),
        (lambda: transition_variation(BEFORE[0], AFTER[0]), r"expected \[B, N, D\] twice"),
        (lambda: attended("keys"), "iga='keys' is unknown: expected all_keys or image_keys"),
        (lambda: attended("all_keys", queries=(False, False)), "row 0 has no instruction token"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""MACs: the paper's own numbers, a hand-worked model, and PyTorch's counter on a real one."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from small_vlms import picture, vlm
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM, LlavaConfig

import trpts.transprune
from trpts.transprune import pruning
from trpts.transprune.costs import macs, prefill_terms
from trpts.transprune.schedule import FASTV, HIGH, LOW_INFERRED, PYRAMIDDROP, Schedule

LLAVA_7B = LlamaConfig(
    hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
)
TINY = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, vocab_size=50
)


@pytest.mark.parametrize(
    ("n_image_tokens", "schedule", "tera"),
    [
        (576, None, "3.82"),
        (576, HIGH, "1.56"),
        (576, FASTV, "2.01"),
        (576, PYRAMIDDROP, "1.78"),
        (576, LOW_INFERRED, "1.19"),
        (2880, None, "20.83"),
        (2880, HIGH, "8.33"),
        (2880, LOW_INFERRED, "6.41"),
    ],
)
def test_numbers_of_the_paper(n_image_tokens, schedule, tera):
    assert f"{macs(LLAVA_7B, n_image_tokens, schedule) / 1e12:.2f}" == tera


def test_equation_7_by_hand():
    config = SimpleNamespace(
        hidden_size=2, intermediate_size=3, num_hidden_layers=3, num_attention_heads=1, vocab_size=5
    )
    half = Schedule((2,), (0.5,), accumulate=(2,))
    # 4 tokens in 2 layers: 4·4·4 + 2·16·2 + 3·4·2·3 = 200 each; 2 tokens in 1: 4·2·4 + 2·4·2 +
    # 3·2·2·3 = 84
    assert macs(config, 4, half) == 2 * 200 + 84
    assert macs(config, 4, half, n_text_tokens=3) == 2 * 200 + 84 + 3 * 4 * 2  # + l·n·d
    assert macs(config, 4, half, n_text_tokens=3, n_instruction_tokens=1) == 2 * 200 + 84 + 4 * 2


def test_honest_count_by_hand():
    """d=4, two heads of 2, one key head, m=3, 5 words; 4 image tokens, 2 behind layer 1, and 2 of
    text, one asks.
    """
    config = SimpleNamespace(
        hidden_size=4,
        intermediate_size=3,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=5,
    )
    wanted = {
        "projections": (6 + 4) * (16 + 8 + 8 + 16),  # q, k, v, output
        "attention": 2 * (36 + 16) * 4,
        "mlp": (6 + 4) * 3 * 12,
        "head": 20,
        "guidance": 16
        + 6 * 4 * 2
        + 6 * 4,  # q of one token, k of six; with six keys, d products each
        "choice": 0,
        "variation": 2 * 3 * 4 * (6 + 4),
    }
    half = Schedule((1,), (0.5,), accumulate=(1, 2))
    counts = config, 4, half, 2
    assert prefill_terms(*counts, n_instruction_tokens=1) == wanted
    assert macs(*counts, overhead=True, n_instruction_tokens=1) == sum(wanted.values())
    both = {"guidance": 2 * 16 + 6 * 4 * 2 + 2 * 6 * 4}
    assert prefill_terms(*counts) == wanted | both
    others = {
        "ttv": {"guidance": 0},
        "iga": both | {"variation": 0},
        "random": {"guidance": 0, "variation": 0},
        "norm": {"guidance": 0, "variation": 2 * 4 * (6 + 4)},
        "fastv": {"variation": 0},
    }
    for score, changed in others.items():
        assert prefill_terms(config, 4, replace(half, score=score), 2) == wanted | changed
    whole = prefill_terms(config, 4, None, 2)
    assert whole == {
        "projections": 576,
        "attention": 576,
        "mlp": 432,
        "head": 20,
        "guidance": 0,
        "choice": 0,
        "variation": 0,
    }


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_unpruned_count_is_pytorch_s(attention):
    """Every product of a real model's prefill, key heads shared; its rotation multiplies no
    matrices.
    """
    config = LlamaConfig(**TINY, num_key_value_heads=2, head_dim=6, attn_implementation=attention)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.arange(20)[None], logits_to_keep=1)
    assert 2 * macs(config, 13, None, 7, overhead=True) == counter.get_total_flops()


@pytest.mark.parametrize("family", ["llava", "llava_next", "qwen2_5_vl"])
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"score": "ttv"},
        {"score": "iga"},
        {"score": "norm"},
        {"score": "random"},
        {"score": "fastv"},
        {"iga": "all_keys", "positions": "compact"},
        {"iga_layer": "same"},
        {"keep": (1.0, 0.25)},
        {"prune_after": (0, 3), "score": "iga"},
        {"prune_after": (0, 3), "score": ("divprune", "iga")},
    ],
    ids=str,
)
def test_pruned_count_is_pytorch_s(family, changed):
    """Every product of matrices of a pruned prefill, behind the vision tower; transitions are no
    such products.
    """
    model, processor = vlm(family)
    inputs = processor(
        images=picture(),
        text=f"USER: {processor.image_token} what ? ASSISTANT:",
        return_tensors="pt",
    )
    plan = replace(Schedule((3, 5), (0.5, 0.25), accumulate=(3, 4)), **changed)
    with torch.no_grad(), pruning(model, plan) as trace, FlopCounterMode(display=False) as counter:
        model(**inputs, logits_to_keep=1)
    vision = sum(
        sum(counts.values())
        for name, counts in counter.get_flop_counts().items()
        if name.count(".") == 2
        and name.endswith(("vision_tower", "multi_modal_projector", "visual"))
    )
    assert vision
    n_image, n_prompt = trace.n_image[0], trace.n_prompt[0]
    terms = prefill_terms(model.config.get_text_config(), n_image, plan, n_prompt - n_image, 4)
    assert 2 * (sum(terms.values()) - terms["variation"]) == counter.get_total_flops() - vision


def test_equation_7_is_the_honest_count_of_a_model_as_it_assumes():
    """No text, as many key heads: only the head is missing."""
    config = LlamaConfig(**TINY)
    assert macs(config, 13) + 32 * 50 == macs(config, 13, overhead=True)


def test_keep_everything_costs_nothing():
    config = LlamaConfig(**TINY)
    everything = Schedule((1, 2), (1.0, 1.0), accumulate=(1,))
    assert macs(config, 13, everything) == macs(config, 13)
    assert prefill_terms(config, 13, everything, 5) == prefill_terms(config, 13, None, 5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            (LlavaConfig(), 16),
            "LlavaConfig has no hidden_size, .*: expected the configuration of the text model",
        ),
        ((LLAVA_7B, -1), "n_image_tokens=-1: expected 0 or more"),
        ((LLAVA_7B, 4, None, -1), "n_text_tokens=-1, n_instruction_tokens=-1: expected 0 or more"),
        (
            (LLAVA_7B, 4, None, 2, True, 3),
            "n_text_tokens=2, n_instruction_tokens=3: .* no more instruction than text",
        ),
        (
            (LlamaConfig(**TINY), 4, HIGH),
            "prune_after=.* in 4 layers: expected the last before layer 4",
        ),
    ],
)
def test_what_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        macs(*arguments)


def test_the_packages_macs_stays_the_function():
    """A module of the same name would take its place as soon as anyone imported it."""
    assert trpts.transprune.macs is macs

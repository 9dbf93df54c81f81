"""MACs: the paper's own numbers, a hand-worked model, and PyTorch's counter on a real one."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from trpts.transprune.macs import macs, prefill_terms, stage_lengths

LLAVA_7B = LlamaConfig(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32)
TINY = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, vocab_size=50)


def plan(prune_after, keep, **others):
    others = {"iga": "all_keys", "score": "transprune", "accumulate": ()} | others
    return SimpleNamespace(prune_after=prune_after, keep=keep, **others)


HIGH = plan((7, 9, 12), (0.875, 0.625, 0.125))


@pytest.mark.parametrize(
    ("n_image_tokens", "schedule", "tera"),
    [
        (576, None, "3.82"),
        (576, HIGH, "1.56"),
        (576, plan((2,), (0.5,)), "2.01"),  # FastV
        (576, plan((8, 16, 24), (0.5, 0.25, 0.125)), "1.78"),  # PyramidDrop
        (2880, None, "20.83"),
        (2880, HIGH, "8.33"),
    ],
)
def test_numbers_of_the_paper(n_image_tokens, schedule, tera):
    assert f"{macs(LLAVA_7B, n_image_tokens, schedule) / 1e12:.2f}" == tera


def test_equation_7_by_hand():
    config = SimpleNamespace(hidden_size=2, intermediate_size=3, num_hidden_layers=3, num_attention_heads=1,
                             vocab_size=5)  # fmt: skip
    # 4 tokens in 2 layers: 4·4·4 + 2·16·2 + 3·4·2·3 = 200 each; 2 tokens in 1: 4·2·4 + 2·4·2 + 3·2·2·3 = 84
    assert macs(config, 4, plan((2,), (0.5,))) == 2 * 200 + 84
    assert macs(config, 4, plan((2,), (0.5,)), n_text_tokens=3) == 2 * 200 + 84 + 3 * 4 * 2  # + l·n·d


def test_honest_count_by_hand():
    """d=4, two heads of 2, one key head, m=3, 5 words; 4 image tokens, 2 behind layer 1, and 1 of text."""
    config = SimpleNamespace(hidden_size=4, intermediate_size=3, num_hidden_layers=2, num_attention_heads=2,
                             num_key_value_heads=1, vocab_size=5)  # fmt: skip
    wanted = {
        "projections": (5 + 3) * (16 + 8 + 8 + 16),  # q, k, v, output
        "attention": 2 * (25 + 9) * 4,
        "mlp": (5 + 3) * 3 * 12,
        "head": 20,
        "guidance": 16 + 4 * 4 * 2 + 4 * 4,  # q of one token, k of four; with four keys, d products each
        "variation": 2 * 3 * 4 * 4 + 2 * 3 * 2 * 4,
    }
    schedule = plan((1,), (0.5,), accumulate=(1, 2), iga="image_keys")
    assert prefill_terms(config, 4, schedule, 1) == wanted
    assert macs(config, 4, schedule, 1, overhead=True) == sum(wanted.values())
    schedule.iga = "all_keys"
    assert prefill_terms(config, 4, schedule, 1) == wanted | {"guidance": 16 + 5 * 4 * 2 + 5 * 4}

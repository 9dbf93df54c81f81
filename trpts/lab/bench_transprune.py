"""Prefill of a language model with and without pruning its image tokens, beside the multiply-accumulates of both.

A text model of random weights between TransPrune's 7B and a toy, behind a vision tower and a projector too thin to
matter (under a thousandth of the products): what is timed is a whole prompt, up to the first row of logits. The paper's
latency table has no unpruned row; ours does.
"""

import statistics
import time
from dataclasses import replace

import torch

from trpts.transprune.macs import prefill_terms

SIZE = {"width": 1024, "mlp": 2816, "layers": 24, "heads": 16, "side": 24, "n_text": 60, "words": 32000}
TOWER, PATCH = 32, 14  # the tower's width, one layer deep; pixels of a patch's side
IMAGE, PAD = 1, 0  # token numbers
SCORING_BAR, TIME_BAR = 0.05, 1.10


def thin_llava(size, device="cpu"):
    """A LLaVA of random weights: a text model of `size` behind hardly any vision."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    tower = CLIPVisionConfig(hidden_size=TOWER, intermediate_size=TOWER, num_hidden_layers=1, num_attention_heads=1,
                             image_size=size["side"] * PATCH, patch_size=PATCH)  # fmt: skip
    text = LlamaConfig(hidden_size=size["width"], intermediate_size=size["mlp"], num_hidden_layers=size["layers"],
                       num_attention_heads=size["heads"], vocab_size=size["words"], pad_token_id=PAD)  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlavaForConditionalGeneration(
            LlavaConfig(vision_config=tower, text_config=text, image_token_index=IMAGE)
        )
    model.model.multi_modal_projector.linear_2 = torch.nn.Identity()
    return model.to(device).eval()

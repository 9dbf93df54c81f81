"""Prefill of a language model with and without pruning its image tokens, beside the
multiply-accumulates of both.

A text model of random weights between TransPrune's 7B and a toy, behind a vision tower and a
projector too thin to matter (under a thousandth of the products): what is timed is a whole prompt,
up to the first row of logits. The paper's latency table has no unpruned row; ours does.
"""

import time
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import torch

from trpts.transprune.costs import macs
from trpts.transprune.schedule import HIGH, Schedule
from trpts_lab.bench.clock import Bench, interleaved, ratio, synchronize, verdict

SIZE = {
    "width": 1024,
    "mlp": 2816,
    "layers": 24,
    "heads": 16,
    "words": 32000,
    "side": 24,
    "before": 35,
    "after": 25,
}
TOWER, PATCH = 32, 14  # the tower's width, one layer deep; pixels of a patch's side
PAD, IMAGE = 0, 1  # token numbers
UNPRUNED, HIGH_ROW, SCORING = "unpruned", "High", "High: its scoring"
KEEP_ALL, COMBINED = "nothing dropped", "divprune before, then High"
# beside TransPrune's own, at High's layers and counts
CRITERIA = ("ttv", "iga", "norm", "fastv", "random", "uniform", "sparsevlm")
# before the language model, at a third of the tokens, as their papers' 192 of 576
BEFORE = ("divprune", "cdpruner", "visionzip")
MACS_BAR, IDLE_BAR = 1.10, 1.01


def plans(layers):
    """{row: Schedule, or None for the unpruned model} in so many layers."""
    high = HIGH.scaled(layers)
    both = Schedule(
        (0, *high.prune_after), (0.9, *high.keep), score=("divprune", *["transprune"] * 3)
    )
    return (
        {UNPRUNED: None, KEEP_ALL: replace(high, keep=(1.0, 1.0, 1.0)), HIGH_ROW: high}
        | {score: replace(high, score=score) for score in CRITERIA}
        | {f"{score} before": Schedule((0,), (1 / 3,), score=score) for score in BEFORE}
        | {COMBINED: both}
    )


def thin_llava(size, device="cpu", kind=torch.float32):
    """A LLaVA of random weights, type `kind`: a text model of `size` with hardly any vision."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    tower = CLIPVisionConfig(
        hidden_size=TOWER,
        intermediate_size=TOWER,
        num_hidden_layers=1,
        num_attention_heads=1,
        image_size=size["side"] * PATCH,
        patch_size=PATCH,
    )
    text = LlamaConfig(
        hidden_size=size["width"],
        intermediate_size=size["mlp"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        vocab_size=size["words"],
        pad_token_id=PAD,
    )
    # drawn where it will be: a CPU would take minutes
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        model = LlavaForConditionalGeneration(
            LlavaConfig(
                vision_config=tower,
                text_config=text,
                image_token_index=IMAGE,
                vision_feature_layer=-1,
            )
        )
    model.model.multi_modal_projector.linear_2 = torch.nn.Identity()
    return model.to(device, kind).eval()


def prompts(size, batch_size, device="cpu"):
    """Inputs of `thin_llava`: text, side² image tokens, text; all at random."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(batch_size, 3, *[size["side"] * PATCH] * 2, generator=generator)
    words = [
        torch.randint(IMAGE + 1, size["words"], (batch_size, size[part]), generator=generator)
        for part in ("before", "after")
    ]
    ids = torch.cat([words[0], torch.full((batch_size, size["side"] ** 2), IMAGE), words[1]], dim=1)
    return {
        "input_ids": ids.to(device),
        "attention_mask": torch.ones_like(ids).to(device),
        "pixel_values": pixels.to(device),
    }


@torch.no_grad()
def bench_transprune(batch_size=1, rounds=5, device="cpu", size=None, kind=torch.float32):
    """{row: {"s": [per round], "macs"}} of a prefill: unpruned, by each of `plans`, and High's
    scoring alone.

    size, kind  of the language model: shapes, None: SIZE, and type
    """
    size = size or SIZE
    model = thin_llava(size, device, kind)
    inputs = prompts(size, batch_size, device)
    compared = plans(size["layers"])
    works = {name: partial(prefill, model, inputs, plan) for name, plan in compared.items()}
    timed = partial(scoring, model, inputs, compared[HIGH_ROW])
    rows = interleaved(works | {SCORING: timed}, rounds)
    for name, plan in compared.items():
        counts = model.config.text_config, size["side"] ** 2, plan, size["before"] + size["after"]
        rows[name]["macs"] = batch_size * macs(
            *counts, overhead=True, n_instruction_tokens=size["after"]
        )
    return rows


def prefill(model, inputs, plan):
    """Seconds of one prompt up to its first row of logits, its keys and values cached."""
    from trpts.transprune import plugin

    with plugin.pruning(model, plan) if plan else nullcontext():
        synchronize(model.device)
        start = time.perf_counter()
        model(**inputs, logits_to_keep=1, use_cache=True)
        synchronize(model.device)
        return time.perf_counter() - start


def scoring(model, inputs, plan):
    """Seconds that one prompt spends on its scores: transitions in the accumulated layers, the
    choice at each stage.

    What does it is timed where it is called; the rest of the prompt runs as in `prefill`.
    """
    from trpts.transprune.pruner import Pruner

    spent = []

    def timed(function):
        def run(*arguments, **options):
            synchronize(model.device)
            start = time.perf_counter()
            outcome = function(*arguments, **options)
            synchronize(model.device)
            spent.append(time.perf_counter() - start)
            return outcome

        return run

    with ExitStack() as patches:
        for name in ("watch", "choose"):
            patches.enter_context(patch.object(Pruner, name, timed(getattr(Pruner, name))))
        prefill(model, inputs, plan)
    return sum(spent)


def beside_macs(rows, bars=True):
    """Lines: each row's time and multiply-accumulates over the unpruned prefill's; their ratio."""
    for name in [name for name in rows if "macs" in rows[name] and name != UNPRUNED]:
        time_share, low, high = ratio(rows, name, UNPRUNED)
        share = rows[name]["macs"] / rows[UNPRUNED]["macs"]
        bar = MACS_BAR if bars and name == HIGH_ROW else None
        if name == KEEP_ALL:
            told = verdict(time_share, IDLE_BAR if bars else None)
            yield f"{name} / {UNPRUNED}: {time_share:.3f} ({low:.3f} to {high:.3f}){told}"
            continue
        yield (
            f"{name} / {UNPRUNED}: {time_share:.3f} ({low:.3f} to {high:.3f}); "
            f"multiply-accumulates {share:.3f}, time over those "
            f"{time_share / share:.3f}{verdict(time_share / share, bar)}"
        )


BENCH = Bench(bench_transprune, [(SCORING, HIGH_ROW, 0.05)], batch_size=1, words=beside_macs)

"""Your own pictures: ask a vision-language model, with and without pruning its image tokens. What
`trpts prune` calls.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trpts import transprune
from trpts.transprune.costs import macs
from trpts.transprune.schedule import Schedule
from trpts.vlm import first_line

if TYPE_CHECKING:  # needed by `trpts prune` alone
    from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

# names in trpts.transprune.schedule
SCHEDULES = {
    "high": "HIGH",
    "low": "LOW_INFERRED",
    "paper": "PAPER",
    "released": "RELEASED_CODE",
    "pyramiddrop": "PYRAMIDDROP",
    "fastv": "FASTV",
}
DEPTH = 32  # layers that they are written for


@dataclass
class Answer:
    """What a model said.

    text       the new tokens, decoded
    n_new      how many they were
    prefill_s  seconds to the first of them, vision tower included
    whole_s    seconds to the last
    """

    text: str
    n_new: int
    prefill_s: float
    whole_s: float


@dataclass
class Comparison:
    """One question asked twice: `whole` and `pruned` are Answers, `kept` the image tokens' numbers
    at each stage.

    macs     {"eq. 7": (whole, pruned), "honest": (whole, pruned)}, multiply-accumulates of the
             prefill
    n_image  image tokens; n_text: the others of the prompt
    """

    schedule: Schedule
    n_image: int
    n_text: int
    kept: list[torch.Tensor]
    macs: dict[str, tuple[int, int]]
    whole: Answer
    pruned: Answer

    def lines(self) -> Iterator[str]:
        """The comparison in words."""
        stages = [
            f"{len(kept)} behind layer {p}"
            for p, kept in zip(self.schedule.prune_after, self.kept, strict=True)
        ]
        yield (
            f"tokens: {self.n_image} of the image, {self.n_text} of text; kept: {', '.join(stages)}"
        )
        for name, said in (("all tokens", self.whole), ("pruned", self.pruned)):
            yield f"{name}: {said.text!r}"
            yield (
                f"  first token after {said.prefill_s:.3f} s, all {said.n_new} after "
                f"{said.whole_s:.3f} s"
            )
        for count, (whole, pruned) in self.macs.items():
            yield (
                f"multiply-accumulates, {count}: {whole:.3e} and {pruned:.3e}, {pruned / whole:.1%}"
            )


def schedule_named(name: str) -> Schedule:
    """One of SCHEDULES; ValueError for another name."""
    if name not in SCHEDULES:
        raise ValueError(f"schedule {name!r} is unknown: expected one of {', '.join(SCHEDULES)}")
    return getattr(transprune, SCHEDULES[name])


@torch.no_grad()
def answer(
    model: "PreTrainedModel", processor: "ProcessorMixin", inputs: "BatchFeature", new_tokens: int
) -> Answer:
    """Ask greedily; one prefill beforehand warms up and is not counted. An Answer."""
    if new_tokens < 1:
        raise ValueError(f"new_tokens={new_tokens}: expected at least 1")
    options = {"do_sample": False, "num_beams": 1}
    model.generate(**inputs, max_new_tokens=1, **options)
    seconds = []
    for n in (1, new_tokens):
        start = time.perf_counter()
        tokens = model.generate(**inputs, max_new_tokens=n, **options)[
            0, inputs["input_ids"].shape[1] :
        ].tolist()
        seconds.append(time.perf_counter() - start)
    return Answer(processor.decode(tokens, skip_special_tokens=True).strip(), len(tokens), *seconds)


def compare(
    model: "PreTrainedModel",
    processor: "ProcessorMixin",
    inputs: "BatchFeature",
    schedule: Schedule,
    new_tokens: int,
) -> Comparison:
    """Ask with all image tokens, then with those that `schedule` leaves; a Comparison.

    raises  ValueError: the model cannot answer, even with all of them
    """
    config = model.config.get_text_config()
    is_image = inputs["input_ids"][0] == model.config.image_token_id
    n_image = int(is_image.sum())
    n_text, n_instruction = len(is_image) - n_image, int((is_image.flip(0).cumsum(0) == 0).sum())

    def count(which, honest):
        return macs(config, n_image, which, n_text, honest, n_instruction)

    counts = {
        name: (count(None, honest), count(schedule, honest))
        for name, honest in (("eq. 7", False), ("honest", True))
    }
    try:
        whole = answer(model, processor, inputs, new_tokens)
    except Exception as error:
        # before anything is pruned: what the folder says of layers and tokens does not fit
        raise ValueError(
            f"the model cannot answer ({type(error).__name__}): {first_line(error)}"
        ) from error
    with transprune.pruning(model, schedule) as trace:
        pruned = answer(model, processor, inputs, new_tokens)
    kept = [rows[0] for rows in trace.kept.values()]
    return Comparison(schedule, n_image, n_text, kept, counts, whole, pruned)

"""Your own pictures: ask a vision-language model with all image tokens, with those that a schedule
leaves, and with a smaller picture of equal cost. What `trpts prune` calls.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image

from trpts import transprune
from trpts.transprune.costs import macs
from trpts.transprune.schedule import Schedule
from trpts.vlm import first_line, prepare

if TYPE_CHECKING:  # needed by `trpts prune` alone
    from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

NAMES = {"low": "LOW_INFERRED", "released": "RELEASED_CODE"}  # in trpts.transprune.schedule
SCHEDULES = ["high", "low", "paper", "released", "pyramiddrop", "fastv"]
SCHEDULES += ["divprune", "cdpruner", "visionzip", "sparsevlm"]
DEPTH = 32  # layers that they are written for
SMALLEST = 16  # pixels of the shorter side of the smallest copy: fewer change a picture's shape


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
class Smaller:
    """A smaller copy of the picture: at which size (width, height) the model read it and the whole,
    what its prompt costs in honest multiply-accumulates, and what the model said; None: the
    smallest copy still costs too much.
    """

    size: tuple[int, int]
    whole: tuple[int, int]
    n_image: int
    macs: int
    said: Answer | None = None


@dataclass
class Comparison:
    """One question asked three times: `whole` and `pruned` are Answers, `kept` the image tokens'
    numbers at each stage, `smaller` a Smaller.

    scales   for each stage {part: (mean, standard deviation)} of what TransPrune's score adds up,
             with its weight
    macs     {"eq. 7": (whole, pruned), "honest": (whole, pruned)}, multiply-accumulates of the
             prefill
    n_image  image tokens; n_text: the others of the prompt
    """

    schedule: Schedule
    n_image: int
    n_text: int
    kept: list[list[int]]
    scales: list[dict[str, tuple[float, float]]]
    macs: dict[str, tuple[int, int]]
    whole: Answer
    pruned: Answer
    smaller: Smaller

    def lines(self) -> Iterator[str]:
        """The comparison in words."""
        stages = [
            f"{len(kept)} behind layer {p}"
            for p, kept in zip(self.schedule.prune_after, self.kept, strict=True)
        ]
        yield (
            f"tokens: {self.n_image} of the image, {self.n_text} of text; kept: {', '.join(stages)}"
        )
        small = self.smaller
        width, height = small.size
        size = f"{width} x {height} pixels of {small.whole[0]} x {small.whole[1]}"
        third = f"smaller picture, {size}, {small.n_image} image tokens"
        answers = (("all tokens", self.whole), ("pruned", self.pruned), (third, small.said))
        for name, said in answers:
            if said is None:
                yield (
                    "no smaller picture costs as little: the smallest copy tried, "
                    f"{size}, has {small.n_image} image tokens"
                )
                continue
            yield f"{name}: {said.text!r}"
            yield (
                f"  first token after {said.prefill_s:.3f} s, all {said.n_new} after "
                f"{said.whole_s:.3f} s"
            )
        for count, (whole, pruned) in self.macs.items():
            third = (
                f"; smaller picture {small.macs:.3e}" if small.said and count == "honest" else ""
            )
            yield (
                f"multiply-accumulates, {count}: {whole:.3e} and {pruned:.3e}, {pruned / whole:.1%}"
                f"{third}"
            )
        for p, parts in zip(self.schedule.prune_after, self.scales, strict=True):
            each = [f"{name} {mean:.2e} ± {sd:.1e}" for name, (mean, sd) in parts.items()]
            if each:
                yield (
                    f"weighted parts of the score behind layer {p}, mean ± standard deviation: "
                    f"{', '.join(each)}"
                )


def schedule_named(name: str) -> Schedule:
    """One of SCHEDULES; ValueError for another name."""
    if name not in SCHEDULES:
        raise ValueError(f"schedule {name!r} is unknown: expected one of {', '.join(SCHEDULES)}")
    return getattr(transprune, NAMES.get(name, name.upper()))


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
    image: Image.Image,
    question: str,
    schedule: Schedule,
    new_tokens: int,
) -> Comparison:
    """Ask with all image tokens, with those that `schedule` leaves, and with a smaller picture that
    costs no more; a Comparison.

    raises  ValueError: the model cannot answer, even with all of them, or cannot be pruned so
    """
    inputs = prepare(model, processor, image, question)
    n_image, n_text, cost = _counts(model, inputs)
    counts = {
        name: (cost(None, honest), cost(schedule, honest))
        for name, honest in (("eq. 7", False), ("honest", True))
    }
    with transprune.pruning(model, schedule):
        pass  # refuses what does not fit before the first answer, which may take minutes
    try:
        whole = answer(model, processor, inputs, new_tokens)
    except Exception as error:
        # before anything is pruned: what the folder says of layers and tokens does not fit
        raise ValueError(
            f"the model cannot answer ({type(error).__name__}): {first_line(error)}"
        ) from error
    with transprune.pruning(model, schedule) as trace:
        pruned = answer(model, processor, inputs, new_tokens)
    kept = [rows[0].tolist() for rows in trace.kept.values()]
    scales = [trace.scale(stage) for stage in trace.kept]
    small, inputs_of_it = _smaller(model, processor, image, question, counts["honest"][1])
    if small.macs <= counts["honest"][1]:
        small.said = answer(model, processor, inputs_of_it, new_tokens)
    return Comparison(schedule, n_image, n_text, kept, scales, counts, whole, pruned, small)


def _smaller(model, processor, image, question, budget):
    """(Smaller, inputs) of the largest smaller copy whose prompt costs up to `budget` honest
    multiply-accumulates, by bisection; if none does, of the smallest.

    The vision tower's cost is not counted: it falls with the size, and pruning leaves it as it is.
    """
    images, longest = processor.image_processor, max(image.size)
    # Idefics3 and SmolVLM first enlarge every picture to this size, which falls with the copy's
    tiled = hasattr(images, "max_image_size") and images.size.longest_edge
    high = tiled or longest

    def size_at(side):
        return tuple(max(1, round(n * side / longest)) for n in image.size)

    whole = size_at(high)

    def copy(side):
        size = size_at(side)
        options = {"size": {"longest_edge": side}} if tiled else {}
        inputs = prepare(model, processor, image.resize(size), question, **options)
        n_image, _, cost = _counts(model, inputs)
        return Smaller(size, whole, n_image, cost()), inputs

    low = min(high, SMALLEST * longest // min(image.size))
    found = copy(low)
    while found[0].macs <= budget and high - low > 1:
        middle = (low + high) // 2
        tried = copy(middle)
        if tried[0].macs <= budget:
            low, found = middle, tried
        else:
            high = middle
    return found


def _counts(model, inputs):
    """Tokens of the image, all others, and cost(schedule, honest), see `macs`."""
    image = inputs["input_ids"][0] == model.config.image_token_id
    n_image, asked = int(image.sum()), int((image.flip(0).cumsum(0) == 0).sum())
    config, n_text = model.config.get_text_config(), len(image) - n_image
    return (
        n_image,
        n_text,
        lambda schedule=None, honest=True: macs(config, n_image, schedule, n_text, honest, asked),
    )

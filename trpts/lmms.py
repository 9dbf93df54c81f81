"""Benchmarks of vision-language models, pruned: lmms-eval's own models with a schedule as argument.

    lmms-eval --model pruned_llava_hf --tasks pope,gqa --batch_size 1 \
        --model_args pretrained=llava-hf/llava-1.5-7b-hf,schedule=high

lmms-eval (https://github.com/EvolvingLMMs-Lab/lmms-eval) finds these by the entry point
"lmms_eval.models"; it makes the prompts, reads the images and judges the answers as it does for the
model without pruning. `pruned_X` takes all arguments of X, and `schedule`, one of
`trpts.ask.SCHEDULES`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from trpts.ask import DEPTH, schedule_named
from trpts.transprune.families import anatomy
from trpts.transprune.plugin import pruning
from trpts.transprune.schedule import Schedule

if TYPE_CHECKING:  # lmms-eval is there where it calls this
    from lmms_eval.models.registry_v2 import ModelManifest

# lmms-eval's models that are transformers' own classes of `trpts.transprune.families`
BASES = ("llava_hf", "qwen2_5_vl", "qwen3_vl", "internvl_hf")


def manifests() -> list["ModelManifest"]:
    """What lmms-eval registers: pruned_X for each X of BASES."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return [
        ModelManifest(model_id=f"pruned_{base}", chat_class_path=f"{__name__}.{base}")
        for base in BASES
    ]


def __getattr__(name: str) -> type:
    """The pruned class of a name of BASES, as the path of a manifest asks for it."""
    if name not in BASES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return _pruned(name)


@cache
def _pruned(base):
    from lmms_eval.models import MODEL_REGISTRY_V2

    whole = MODEL_REGISTRY_V2.get_model_class(base)

    class Pruned(whole):  # type: ignore[misc, valid-type]
        """The model of lmms-eval, with `schedule` in every generation that sees an image."""

        def __init__(self, schedule: str = "high", **settings: Any) -> None:
            named = schedule_named(schedule)  # before a model is loaded
            super().__init__(**settings)
            layers = len(anatomy(self.model).layers)
            self.schedule = named if layers == DEPTH else named.scaled(layers, DEPTH)

        def generate_until(self, requests: list[Any]) -> list[Any]:
            with generation_pruned(self.model, self.schedule):
                return super().generate_until(requests)

        def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
            with generation_pruned(self.model, self.schedule):
                return super().generate_until_multi_round(requests)

        def loglikelihood(self, requests: list[Any]) -> list[Any]:
            raise ValueError(
                f"pruned_{base} scores no given answers: their words would count as instruction; "
                "expected tasks whose answers are generated"
            )

    Pruned.__name__ = f"Pruned{whole.__name__}"
    return Pruned


@contextmanager
def generation_pruned(model: Any, schedule: Schedule) -> Iterator[None]:
    """While this is open, `model.generate` prunes by `schedule` wherever a prompt has image tokens.

    lmms-eval turns an error in a generation into an empty answer, which would count as a wrong one.
    raises  at the end: the first error of a generation
    """
    failed: list[Exception] = []
    model.generate = partial(_generate, model, model.generate, schedule, failed)
    try:
        yield
    finally:
        del model.generate  # the class has its own
    if failed:
        raise failed[0]


def _generate(
    model: Any,
    whole: Callable[..., Any],
    schedule: Schedule,
    failed: list[Exception],
    *arguments: Any,
    **inputs: Any,
) -> Any:
    """`generate`, pruned; of a prompt of text alone, as it is."""
    parts, ids = anatomy(model), inputs["input_ids"]
    seen = [n for n in (parts.image_token_id, parts.video_token_id) if n is not None]
    try:
        if not any((ids == number).any() for number in seen):
            return whole(*arguments, **inputs)
        with pruning(model, schedule):
            return whole(*arguments, **inputs)
    except Exception as error:
        failed.append(error)
        raise

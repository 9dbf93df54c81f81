"""lmms-eval's models with pruning. A stand-in for lmms-eval makes prompts and swallows errors as it
does; lmms-eval 0.7.3 itself was run once on a task of four pictures (CHANGELOG.md).
"""

import importlib
import pkgutil
import sys
import tomllib
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import pytest
import torch
from small_vlms import picture, vlm

from trpts import lmms
from trpts.transprune import LOW_INFERRED, pruning
from trpts.vlm import prepare

MODEL, PROCESSOR = vlm("llava")
WORDS = "is there a cat ?"


class Whole:
    """As lmms-eval's llava_hf: an error in a generation is an empty answer."""

    is_simple = False

    def __init__(self, pretrained="", device="cpu"):
        self.model, self.pretrained = MODEL, pretrained

    def generate_until(self, requests):
        answers = []
        for inputs in requests:
            try:
                tokens = self.model.generate(**inputs, max_new_tokens=3, do_sample=False)
                answers.append(tokens[0, inputs["input_ids"].shape[1] :].tolist())
            except Exception:
                answers.append([])
        return answers

    generate_until_multi_round = generate_until


@dataclass
class Manifest:
    model_id: str
    chat_class_path: str


@pytest.fixture(autouse=True)
def harness(monkeypatch):
    """A module lmms_eval with what the adapter asks for."""
    for name in ("lmms_eval", "lmms_eval.models", "lmms_eval.models.registry_v2"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    registry = SimpleNamespace(get_model_class=lambda name: Whole)
    sys.modules["lmms_eval.models"].MODEL_REGISTRY_V2 = registry
    sys.modules["lmms_eval.models.registry_v2"].ModelManifest = Manifest
    lmms._pruned.cache_clear()
    yield
    lmms._pruned.cache_clear()


def inputs(width=60):
    return prepare(MODEL, PROCESSOR, picture(width), WORDS)


def test_every_base_is_registered_under_a_path_that_leads_to_its_class(project):
    found = lmms.manifests()
    assert [m.model_id for m in found] == [f"pruned_{base}" for base in lmms.BASES]
    for manifest in found:
        module, _, name = manifest.chat_class_path.rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        assert issubclass(cls, Whole)
        assert not cls.is_simple
    with pytest.raises(AttributeError, match="no attribute no_such_model"):
        lmms.no_such_model  # noqa: B018
    pyproject = tomllib.loads((project.root / "pyproject.toml").read_text())
    entry = pyproject["project"]["entry-points"]["lmms_eval.models"]["trpts"]
    assert pkgutil.resolve_name(entry) is lmms.manifests


def test_answers_are_those_of_pruning():
    asked = [inputs(), inputs(40)]
    plain = Whole().generate_until(asked)
    model = lmms.llava_hf(schedule="low", pretrained="somewhere")
    assert model.pretrained == "somewhere"
    assert model.schedule == LOW_INFERRED.scaled(8)
    with pruning(MODEL, LOW_INFERRED.scaled(8)):
        wanted = Whole().generate_until(asked)
    assert model.generate_until(asked) == wanted != plain
    assert model.generate_until_multi_round(asked) == wanted
    assert Whole().generate_until(asked) == plain  # the model is as it was
    assert "generate" not in vars(MODEL)


def test_a_prompt_of_text_alone_is_not_pruned():
    text = {"input_ids": torch.tensor([[1, 9, 10, 11]]), "attention_mask": torch.ones(1, 4).long()}
    assert lmms.llava_hf().generate_until([text]) == Whole().generate_until([text])


def test_an_error_is_no_empty_answer():
    bad = dict(inputs())
    bad["attention_mask"] = bad["attention_mask"].flip(1)
    bad["attention_mask"][0, -1] = 0  # padding on the right
    assert Whole().generate_until([bad]) != [[]]
    model = lmms.llava_hf()
    with pytest.raises(ValueError, match="padding"):
        model.generate_until([inputs(), bad])
    assert "generate" not in vars(MODEL)


def test_bad_requests_are_sentences():
    with pytest.raises(ValueError, match="schedule 'highest' is unknown: expected one of high,"):
        lmms.llava_hf(schedule="highest")
    with pytest.raises(ValueError, match="pruned_llava_hf scores no given answers"):
        lmms.llava_hf().loglikelihood([])

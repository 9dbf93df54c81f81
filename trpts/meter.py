"""A memory reading for results and records."""

import platform


def peak_memory_bytes(device="cpu"):
    """Bytes: on "cuda" the most that tensors took there, else the process's largest resident memory so far.

    None where the system does not tell.
    """
    if device == "cuda":
        import torch  # here, so that reading a record does not need torch

        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024

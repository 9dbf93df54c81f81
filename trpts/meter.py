"""A memory reading for results and records."""

import platform
from pathlib import Path


def peak_memory_bytes(device: str = "cpu") -> int | None:
    """Bytes: on "cuda" the most that tensors took there, else the process's largest resident memory
    so far.

    None where the system does not tell.
    """
    if device == "cuda":
        import torch  # here, so that reading a record does not need torch

        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    # Linux: ru_maxrss below would hold on to what a parent process took before it started us
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024

"""Where a number was born: package versions, machine, device."""

import importlib.metadata
import os
import platform
from functools import cache
from pathlib import Path

from trpts.lab.project import Project

PACKAGES = ("torch", "timm", "numpy", "scikit-learn")  # those that can change a number


def pick_device():
    """The device that runs use: "cuda" where there is one, else "cpu". It is part of a record's name."""
    import torch  # here, because the command line reads hashes and versions without needing torch's slow import

    return "cuda" if torch.cuda.is_available() else "cpu"


@cache
def versions():
    """{"python": ..., "torch": ..., ...}"""
    return {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES}


@cache
def machine():
    """{"system", "processor", "cores", "memory_bytes", "device"}: what the machine is, never whose or where."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "device": _device_name(),
    }


def _device_name():
    if pick_device() == "cpu":
        return "cpu"
    import torch

    return torch.cuda.get_device_name()


def _processor():
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _memory_bytes():
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def weights_path(config):
    """Configurations name weights relative to the checkout, so that a record holds no path of one machine."""
    return Project.find().root / config["weights"] if config["weights"] else None

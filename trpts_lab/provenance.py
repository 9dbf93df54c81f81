"""Where a number was made: commit, package versions, machine."""

import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import trpts
from trpts.device import pick_device
from trpts.hashes import file_hash, short_hash

# All that a record's numbers rest on; what is not installed has no version
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "peft",
    "transformers",
    "tokenizers",
)
# What makes a checkout dirty when it changes: outputs and results do not
CODE = ("trpts", "trpts_lab", "profiles", "constraints.txt")


@cache
def provenance(root: Path) -> dict:
    """{"commit", "dirty", "versions", "machine"} of this process and the checkout at `root`."""
    return commit_of(root) | {"versions": versions(), "machine": machine()}


def commit_of(root: Path) -> dict:
    """{"commit": what a checkout is at, "dirty": whether its code differs from it}; both are null
    without git.

    Where code was copied without its history, the environment variable TRPTS_COMMIT may say what
    was copied.
    """
    if os.environ.get("TRPTS_COMMIT"):
        return {"commit": os.environ["TRPTS_COMMIT"], "dirty": False}

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)

    try:
        head = git("rev-parse", "HEAD")
        changes = git("status", "--porcelain", "--", *CODE)
    except OSError:  # no git on this machine
        return {"commit": None, "dirty": None}
    if head.returncode or changes.returncode:
        return {"commit": None, "dirty": None}
    return {"commit": head.stdout.strip(), "dirty": bool(changes.stdout.strip())}


@cache
def code_hash() -> str:
    """The hash of all files of both packages: a sweep's workers must have the same ones, and a
    chapter that ran with others is run again. No record depends on it.
    """
    lines = []
    for package in (Path(trpts.__file__).parent, Path(__file__).parent):
        files = sorted(p for p in package.rglob("*") if p.suffix in (".py", ".json", ".toml"))
        lines += [f"{p.relative_to(package.parent).as_posix()} {file_hash(p)}" for p in files]
    return short_hash("\n".join(lines))


@cache
def versions() -> dict:
    """{"python": ..., "torch": ..., ...}"""
    return {"python": platform.python_version()} | {
        package: _version(package) for package in PACKAGES
    }


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def machine() -> dict:
    """{"system", "processor", "cores", "memory_bytes", "device"}: never whose machine or where."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
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

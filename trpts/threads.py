"""How threads wait for each other: set before torch is loaded, so that a busy machine does not
stand still.

At the end of each parallel part of a computation, its threads wait for the slowest one. By default
OpenMP's runtimes let them spin for milliseconds: each keeps its core while it waits. On a machine
of one's own that saves the time of waking up. Beside other programs, a waiting thread holds the
core that the slowest one needs, and a training step takes many times its share. Here threads spin
for a moment only, then sleep. `trpts bench busy` measures both.

The runtime reads its environment once, when torch loads it. Processes started later inherit the
setting.
"""

import os
import sys
import warnings

# libgomp (torch for Linux) counts turns of its waiting loop: by default 300,000, some milliseconds;
# 2,100 outlast the moments between two operations. LLVM's and Intel's (torch for macOS and Windows;
# conda) count milliseconds, by default 200; 0 would be no spinning at all. Each ignores the other's
# setting.
SHORT_SPINS = {"GOMP_SPINCOUNT": "2100", "KMP_BLOCKTIME": "1"}
CHOICES = (*SHORT_SPINS, "OMP_WAIT_POLICY", "KMP_LIBRARY")  # all that say how threads wait


def spin_shortly() -> None:
    """Let the threads of this process, and of those that it starts, wait by SHORT_SPINS; what a
    user has set stays.

    warns  UserWarning: torch was loaded first, so that in this process the threads wait as before
    """
    if any(name in os.environ for name in CHOICES):  # the user's own choice, or ours, inherited
        return
    os.environ.update(SHORT_SPINS)
    if sys.modules.get("torch") is not None and os.environ.get("OMP_NUM_THREADS") != "1":
        settings = " ".join(f"{name}={value}" for name, value in SHORT_SPINS.items())
        warnings.warn(
            "torch was loaded before trpts, so its threads keep their cores while they wait, and "
            f"training is slow on a busy machine: import trpts first, or set {settings} in the "
            "environment",
            stacklevel=3,  # the line that imports trpts
        )

"""The memory reading sees what a process takes, and not what its parent took."""

import subprocess
import sys

import pytest

from trpts.meter import peak_memory_bytes

CODE = "from trpts.meter import peak_memory_bytes; x = b'x' * {n}; print(peak_memory_bytes())"


def peak_of_child(n):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(n=n)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(peak_memory_bytes() is None, reason="this system does not tell")
def test_a_child_has_its_own_peak():
    held = b"x" * 300 * 2**20
    small, large = peak_of_child(0), peak_of_child(200 * 2**20)
    assert small < 150 * 2**20 < len(held)
    assert 190 * 2**20 < large - small < 230 * 2**20

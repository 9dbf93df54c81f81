"""The bench of a busy machine: its parts by hand, and one whole small round. Nothing is held
against a time.
"""

import os

import pytest

from trpts.threads import CHOICES, SHORT_SPINS
from trpts_lab.bench import busy as bench_busy
from trpts_lab.bench.benches import lines
from trpts_lab.bench.busy import (
    ALONE,
    COMPANY,
    DEFAULT,
    MODELS,
    ONE_LOOP,
    OURS,
    SETTINGS,
    TWO_TORCH,
    work,
)


def test_ratios_and_bars_by_hand():
    seconds = {
        ALONE: {DEFAULT: 1.0, OURS: 1.04},
        ONE_LOOP: {DEFAULT: 3.0, OURS: 2.6},
        TWO_TORCH: {OURS: 4.0},
    }
    rows = {
        work(m, s, c): {"s": [seconds[c].get(s, 9.0)]}
        for m in MODELS
        for c in COMPANY
        for s in SETTINGS
    }
    text = list(lines("busy", rows))
    ours = work("vit_lab", OURS, ALONE)
    assert (
        f"{ours} / {work('vit_lab', DEFAULT, ALONE)}: 1.040 (1.040 to 1.040), bar 1.05: met" in text
    )
    assert (
        f"{work('vit_lab', OURS, ONE_LOOP)} / {ours}: 2.500 (2.500 to 2.500), bar 2.2: missed"
        in text
    )
    assert (
        f"{work('vit_lab', OURS, TWO_TORCH)} / {ours}: 3.846 (3.846 to 3.846), bar 5.0: met" in text
    )
    assert sum("bar" in line for line in text) == 3 * len(MODELS), (
        "other settings are shown without one"
    )


def test_a_process_knows_its_own_setting_only(monkeypatch):
    """Whatever this process runs with; other people's programs run by their runtime's default."""
    show = (
        f"import os; print({{n: os.environ[n] for n in {CHOICES} if n in os.environ}}, flush=True)"
    )
    for name in CHOICES:
        monkeypatch.setenv(name, "1")
    for setting in (SHORT_SPINS, {}):
        with bench_busy._started(show, setting) as process:
            assert bench_busy._line(process) == f"{setting}\n"
        assert process.poll() is not None
    assert os.environ[CHOICES[0]] == "1"
    with (
        bench_busy._started("raise SystemExit(3)", {}) as process,
        pytest.raises(RuntimeError, match=r"ended \(3\)"),
    ):
        bench_busy._line(process)


def test_one_small_round(monkeypatch, capfd):
    monkeypatch.setattr(bench_busy, "MODELS", {"vit_lab": 2})
    monkeypatch.setattr(bench_busy, "SETTINGS", {OURS: SHORT_SPINS})
    monkeypatch.setattr(
        bench_busy, "COMPANY", {ALONE: [], TWO_TORCH: [bench_busy.TORCH, bench_busy.LOOP]}
    )
    rows = bench_busy.bench_busy(rounds=1, seconds=0)
    assert list(rows) == [work("vit_lab", OURS, ALONE), work("vit_lab", OURS, TWO_TORCH)]
    assert all(0 < row["s"][0] < 60 for row in rows.values())

"""What other programs cost a training step, by how its threads wait for each other (see
`trpts.threads`).

A runtime reads its setting once, so each setting has a process of its own, new in every round.
Alone and beside each company all of them do the same steps in turn, while the others sleep.
"""

import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import timm
import torch
from torch.nn.functional import cross_entropy

from trpts.backbones import create_backbone
from trpts.threads import CHOICES, SHORT_SPINS
from trpts_lab.bench.clock import Bench, keep_freed_memory, synchronize

N_CLASSES, SECONDS = 20, 1.0
DEFAULT = "the runtime's default"
PASSIVE = "passive"
OURS = f"{int(SHORT_SPINS['GOMP_SPINCOUNT']):,} spins"
COUNTS = sorted({1000, 4000, int(SHORT_SPINS["GOMP_SPINCOUNT"])})  # ours, one on each side
SETTINGS = {DEFAULT: {}, PASSIVE: {"OMP_WAIT_POLICY": "passive"}}
SETTINGS |= {f"{n:,} spins": SHORT_SPINS | {"GOMP_SPINCOUNT": str(n)} for n in COUNTS}
ALONE, ONE_LOOP, TWO_TORCH = "alone", "beside one busy process", "beside two torch processes"
# Somebody else's programs: they wait by their runtime's default.
LOOP = "print(flush=True)\nwhile True: pass"
TORCH = """import torch
torch.set_num_threads(2)
model = torch.nn.TransformerEncoderLayer(96, 3, 384, batch_first=True)
x = torch.randn(32, 65, 96)
print(flush=True)
while True: model(x).sum().backward()"""
COMPANY = {ALONE: [], ONE_LOOP: [LOOP], TWO_TORCH: [TORCH, TORCH]}
# images in a batch, where `trpts bench` is asked for 32
MODELS = {"vit_lab": 32, "ViT-S at 112 px": 8}
MEASURED = "import torch; from trpts_lab.bench.busy import measured; measured()"


def work(model, setting, company):
    """The name of a row."""
    return f"{model}, {setting}, {company}"


def busy_bars():
    """Bars of the bench: our setting in company and alone has one, the other settings have none."""
    for model in MODELS:
        for company, at_most in ((ONE_LOOP, 2.2), (TWO_TORCH, 5.0)):
            for setting in SETTINGS:
                yield (
                    work(model, setting, company),
                    work(model, setting, ALONE),
                    at_most if setting == OURS else None,
                )
        for setting in SETTINGS:
            if setting != DEFAULT:
                yield (
                    work(model, setting, ALONE),
                    work(model, DEFAULT, ALONE),
                    1.05 if setting == OURS else None,
                )


def bench_busy(batch_size=32, rounds=5, device="cpu", seconds=SECONDS):
    """{"<model>, <setting>, <company>": {"s": [seconds of a training step, per round]}}

    seconds  how long steps are repeated for each number
    """
    rows = {work(m, s, c): {"s": []} for m in MODELS for c in COMPANY for s in SETTINGS}
    for nth in range(rounds):
        with ExitStack() as stack:
            processes = {
                s: stack.enter_context(_started(MEASURED, variables))
                for s, variables in SETTINGS.items()
            }
            for process in processes.values():
                _line(process)  # loaded
            for company, programs in COMPANY.items():
                with ExitStack() as others:
                    for process in [
                        others.enter_context(_started(program, {})) for program in programs
                    ]:
                        _line(process)  # at work
                    for model, usual in MODELS.items():
                        for setting, process in processes.items():
                            n_images = max(1, usual * batch_size // 32)
                            print(
                                model,
                                n_images,
                                device,
                                seconds,
                                sep="\t",
                                file=process.stdin,
                                flush=True,
                            )
                            s, name = float(_line(process)), work(model, setting, company)
                            rows[name]["s"].append(s)
                            print(
                                f"round {nth + 1}/{rounds}: {name} {s:.3f} s",
                                file=sys.stderr,
                                flush=True,
                            )
    return rows


@contextmanager
def _started(program, variables):
    """A Python process with only `variables` to say how it waits; the process is killed on exit."""
    environment = {
        name: value for name, value in os.environ.items() if name not in CHOICES
    } | variables
    command = [sys.executable, "-W", "ignore", "-c", program]  # one loads torch first on purpose
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process):
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"a process of the bench ended ({process.wait()}): its message is above")
    return line


def measured():
    """The measured process: "model, n_images, device, seconds" on stdin, s of a step on stdout."""
    keep_freed_memory()
    print(flush=True)
    steps = {}
    for line in sys.stdin:
        model, n_images, device, seconds = line.rstrip("\n").split("\t")
        if model not in steps:
            steps[model] = _step(model, int(n_images), device)
            steps[model]()  # the first is not counted
        print(_seconds(steps[model], device, float(seconds)), flush=True)


def _seconds(step, device, at_least):
    """Mean seconds of a step, over one or more that take so long."""
    synchronize(device)
    start, n = time.perf_counter(), 0
    while n == 0 or time.perf_counter() - start < at_least:
        step()
        synchronize(device)
        n += 1
    return (time.perf_counter() - start) / n


def _step(name, n_images, device):
    if name == "vit_lab":
        model, side = create_backbone("vit_lab", N_CLASSES), 32
    else:
        model = timm.create_model("vit_small_patch16_224", img_size=112, num_classes=N_CLASSES)
        side = 112
    model = model.to(device).train()
    images = torch.randn(n_images, 3, side, side).to(device)
    labels = torch.arange(n_images).to(device) % N_CLASSES
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step():
        cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


BENCH = Bench(bench_busy, list(busy_bars()), batch_size=32)

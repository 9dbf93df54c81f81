"""A delta per task, put into one backbone and taken out in turn: does any task notice others?"""

import tempfile
from pathlib import Path

from trpts.delta import load_delta, read_delta, save_delta, unload_delta
from trpts.probe import accuracy
from trpts.tuning import tune
from trpts_lab.tasks import backbone_of, inputs, settings_of, task_of  # noqa: F401 - inputs

VERSION = 1


def run(config):
    """Metrics of one seed; `config` has backbone, weights, tasks, seed, per_neuron, epochs, lr, …

    alone, swapped  {task: test accuracy}: after its tuning; with its delta in the shared model,
                    after others'
    """
    tasks = {name: task_of(config, name) for name in config["tasks"]}
    settings = settings_of(config) | {"keep": 1, "per_neuron": config["per_neuron"]}
    alone, swapped, sizes = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, task in tasks.items():
            model = backbone_of(config, task.n_classes)
            result = tune(model, task, **settings)
            alone[name] = result.test_accuracy
            save_delta(model, Path(folder) / name)
            sizes[name] = (Path(folder) / name).stat().st_size
        shared = backbone_of(config, 2)
        before = {name: p.clone() for name, p in shared.state_dict().items()}
        names = list(tasks)
        # each is read last when it was put in after another one
        for name in (*names, *reversed(names[:-1])):
            load_delta(shared, read_delta(Path(folder) / name))
            swapped[name] = accuracy(shared, tasks[name].test)
        unload_delta(shared)
    after = shared.state_dict()
    return {
        "alone": alone,
        "swapped": swapped,
        "delta_bytes": sizes,
        "model_bytes": sum(4 * p.numel() for p in before.values()),
        "n_changed": sum(int((after[name] != p).sum()) for name, p in before.items()),
    }

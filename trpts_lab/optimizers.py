"""Several optimisers that step, are saved and go on as one."""

import numpy as np


class Optimizers:
    """Several optimisers that step as one; the parameters of each are numbered behind those of the
    one before.
    """

    def __init__(self, *parts):
        self.parts = parts
        sizes = [sum(len(group["params"]) for group in part.param_groups) for part in parts]
        self.starts = np.cumsum([0, *sizes]).tolist()

    def zero_grad(self):
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self):
        for part in self.parts:
            part.step()

    def set_lr(self, *rates):
        """One learning rate for each group of parameters, in their order."""
        for group, lr in zip(
            [g for part in self.parts for g in part.param_groups], rates, strict=True
        ):
            group["lr"] = lr

    def state_dict(self):
        states = [part.state_dict()["state"] for part in self.parts]
        return {
            "state": {
                start + n: state
                for start, found in zip(self.starts, states, strict=False)
                for n, state in found.items()
            }
        }

    def load_state(self, state):
        """Take up the "state" of `state_dict`."""
        for part, start, end in zip(self.parts, self.starts, self.starts[1:], strict=False):
            own = {n - start: state[n] for n in state if start <= n < end}
            part.load_state_dict(part.state_dict() | {"state": own})

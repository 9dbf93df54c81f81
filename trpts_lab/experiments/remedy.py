"""Post hoc: TR-PTS tuned with another score, made after the test accuracies of the score's ablation
had been seen.

The runs are those of `tuned` in all but the score: what they show is a cause, not a result to put
beside the others.
"""

from trpts_lab.experiments import tuned
from trpts_lab.experiments.concentration import score_of

VERSION = 1
inputs = tuned.inputs


def run(config):
    """Metrics and `config` as of `tuned`, but `score` is one of `concentration.REMEDIES`."""
    score = score_of(config["score"], config["seed"])
    return tuned.run(config | {"options": config["options"] | {"score": score}})

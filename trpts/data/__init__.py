"""Tasks: what a model is tuned on. `Task` holds three splits; each module beside it makes some."""

from trpts.data.task import Split, Task

__all__ = ["Split", "Task"]

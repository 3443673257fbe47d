"""The whole state of a training as a checkpoint, and back: a resumed run is to equal an uninterrupted one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_archs.training import replicas
from keras_archs.training.checkpoint import Checkpoint
from keras_archs.training.trainee import Trainee


@dataclass
class Progress:
    """Where a training stands; everything that is no variable of the model or the optimizer.

    Attributes:
        epoch: Finished epochs.
        step: Finished steps of the epoch that has begun.
        batch_size: Images a step.
        seconds: Spent in the epoch that has begun, before a crash.
        rows: A row of history.csv for each finished epoch.
    """

    batch_size: int
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return dict(vars(self))


def capture(model: Trainee, progress: Progress, phase: int, facts: dict[str, Any]) -> Checkpoint:
    """Copy the state of a training; on several workers all of them must call it.

    Args:
        model: In training.
        progress: Where it stands.
        phase: Which of the run's phases; each has an optimizer of its own.
        facts: More of the record.

    Returns:
        The state.
    """
    replicas.average_statistics(model)
    variables = _kept(model) | named(model.metrics_variables, "metric")
    variables |= named(model.optimizer.variables, f"optimizer{phase}")
    arrays = dict(zip(variables, replicas.read(model, list(variables.values())), strict=True))
    return Checkpoint(arrays, {"progress": progress.to_dict(), "phase": phase, **facts})


def restore(model: Trainee, checkpoint: Checkpoint, phase: int) -> None:
    """Give a model and its optimizer the state they were captured in.

    Args:
        model: Compiled for the phase, its optimizer built.
        checkpoint: The state.
        phase: If it is not the one of the checkpoint, the optimizer starts anew.

    Raises:
        ValueError: If the variables are not those of the checkpoint; nothing is changed then.
    """
    variables = _kept(model)
    if checkpoint.record["phase"] == phase:
        variables |= named(model.optimizer.variables, f"optimizer{phase}")
    found = checkpoint.arrays
    wrong = [n for n, v in variables.items() if n not in found or tuple(v.shape) != found[n].shape]
    if wrong:
        raise ValueError(f"the checkpoint does not fit the model; it has no {', '.join(wrong[:3])} like that")
    for name, variable in variables.items():
        variable.assign(found[name])
    replicas.spread_seeds(model)


def restore_metrics(model: Trainee, checkpoint: Checkpoint) -> None:
    """Let the running metrics go on from where they were.

    Args:
        model: Compiled, an epoch having begun: `fit` resets them then.
        checkpoint: The state.
    """
    for name, variable in named(model.metrics_variables, "metric").items():
        variable.assign(checkpoint.arrays[name])


def _kept(model: Trainee) -> dict[str, keras.Variable]:
    """The model's variables but the one that remembers a bad loss: where there is one, nothing is saved."""
    return named((v for v in model.variables if v is not model.bad_step), "model")


def named(variables: Iterable[keras.Variable], prefix: str) -> dict[str, keras.Variable]:
    """Name variables by their paths, which no two layers share; the order is that of the names.

    Keras numbers seed generators through a whole process: they go by their order in the model instead.

    Args:
        variables: Any.
        prefix: In front of each name.

    Returns:
        Variables by name.
    """
    found: dict[str, keras.Variable] = {}
    paths = [(re.sub(r"^seed_generator_\d+", "seed_generator", v.path), v) for v in variables]
    for path, variable in sorted(paths, key=lambda pair: pair[0]):
        name, number = f"{prefix}/{path}", 1
        while name in found:
            number += 1
            name = f"{prefix}/{path}#{number}"
        found[name] = variable
    return found

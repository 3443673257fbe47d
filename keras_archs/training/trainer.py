"""train: a configuration and a folder in, a finished run out, from wherever an earlier attempt came to."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
from rich.progress import Progress as Bar

from keras_archs.training import networks, replicas, state
from keras_archs.training.atomic import written_whole
from keras_archs.training.callbacks import (
    EvaluateAverages,
    KeepProgress,
    Orders,
    SaveBest,
    SaveCheckpoints,
    StopEarly,
    WriteSummaries,
    columns,
    has_waited,
)
from keras_archs.training.checkpoint import FOLDER, Checkpoint, newest_checkpoint, save_checkpoint
from keras_archs.training.cluster import Cluster, PeerError
from keras_archs.training.config import TrainConfig
from keras_archs.training.data import in_memory, load_data, note_damage, read_damaged
from keras_archs.training.evaluation import evaluate_model
from keras_archs.training.folder import claimed, write_text
from keras_archs.training.history import best_epoch
from keras_archs.training.images import DamagedImageError
from keras_archs.training.phases import Phase, phases_of
from keras_archs.training.pipeline import Part
from keras_archs.training.precise import recompute_statistics
from keras_archs.training.progress import TrainingProgress, is_wanted, training_progress
from keras_archs.training.report import write_report
from keras_archs.training.run import (
    CONFIG,
    HISTORY,
    LABELS,
    LAST,
    METRICS,
    MODEL,
    SKIPPED,
    TENSORBOARD,
    Run,
    load_model,
)
from keras_archs.training.state import Progress
from keras_archs.training.strategies import Plan, make_plan, start

if TYPE_CHECKING:
    import tensorflow as tf

DEADLINE = 300.0  # seconds in which all workers must have come
# Where a collective lacks a member, TensorFlow says: cancelled, late, aborted, internal, unavailable.
GONE = frozenset({1, 4, 10, 13, 14})


@dataclass(frozen=True)
class Options:
    """How to train, as far as the weights do not depend on it.

    Attributes:
        progress: Show bars on stderr: True, False, or None for "only on a terminal".
        force: Throw away what an earlier run with another configuration left in the folder.
        tensorboard: Write event files, too.
        deadline: Seconds in which all workers must have come.
        callbacks: More Keras callbacks, which `fit` calls on every worker.
    """

    progress: bool | None = None
    force: bool = False
    tensorboard: bool = False
    deadline: float = DEADLINE
    callbacks: tuple[keras.callbacks.Callback, ...] = ()


def train(
    config: TrainConfig, run_dir: str | Path, *, plan: Plan | None = None, options: Options | None = None
) -> Run:
    """Train a model, keep its best epoch, measure that on the test split, and write everything down.

    Where an earlier attempt with the same configuration was interrupted, it goes on from the last checkpoint,
    and ends with the same weights, on a CPU bit by bit, as if nothing had happened. A finished run is opened.
    The global random seeds of Python, NumPy and Keras are set.

    Args:
        config: What to train, on what, and how.
        run_dir: A folder that does not exist or is empty, or holds a run of the same configuration.
        plan: Where to train, of `strategies.make_plan`; None means all visible GPUs, or the CPU.
        options: How, as far as the weights do not depend on it.

    Returns:
        The finished run.

    Raises:
        ValueError: If the configuration does not fit the data, the model or the devices.
        FloatingPointError: If the loss became no number; the message names the step.
        OSError: If run_dir holds something else or cannot be written.
        SystemExit: With 143, after SIGTERM or SIGUSR1; the state is saved.
    """
    options = options or Options()
    plan = plan or make_plan("auto", Cluster((), 0, "this machine alone"), config.batch_size)
    check_fit(config, plan)
    config = config.located()
    with claimed(Path(run_dir), config, plan.cluster.is_chief, options.force) as directory:
        strategy = start(plan, options.deadline)
        with _peers_named(plan):
            _check_agreement(strategy, "configuration", _number(json.dumps(config.to_dict())))
            # The chief's answer counts: others may not see its files yet.
            is_finished = int((directory / METRICS).exists())
            if not replicas.gathered(strategy, [is_finished])[0, 0]:
                while not _is_trained(config, directory, plan, strategy, options):
                    pass
        return Run.open(directory)


def _is_trained(
    config: TrainConfig,
    directory: Path,
    plan: Plan,
    strategy: "tf.distribute.Strategy | None",
    options: Options,
) -> bool:
    """Train to the end; or find damaged images, which the next attempt does without."""
    import tensorflow as tf

    try:
        training = _Training(config, directory, plan, strategy, options)
        training.fit()
        training.report()
        return True
    except (DamagedImageError, tf.errors.InvalidArgumentError) as error:
        shown = options.progress if plan.cluster.is_chief else False
        found = note_damage(directory, config, progress=shown)
        if not found:
            raise
        if plan.cluster.size > 1:
            raise DamagedImageError(
                f"{len(found)} images are damaged, among them {next(iter(found))}. Start all workers again: "
                "they go on from the last checkpoint without these"
            ) from error
        return False


class _Training:
    """One attempt at a run."""

    def __init__(
        self,
        config: TrainConfig,
        directory: Path,
        plan: Plan,
        strategy: "tf.distribute.Strategy | None",
        options: Options,
    ) -> None:
        """Read the data and build the networks, before anything is written."""
        self.config, self.directory, self.plan, self.options = config, directory, plan, options
        self.strategy, self.is_chief = strategy, plan.cluster.is_chief
        self.shown = options.progress if self.is_chief else False
        whole = load_data(config, progress=self.shown)
        self.fingerprint = whole.fingerprint()
        self.files = data = whole.without(read_damaged(directory))
        if plan.batch_size > len(data.train):
            raise ValueError(
                f"run.batch_size={plan.batch_size} must be at most {len(data.train)}, the number of training "
                "images"
            )
        self.data = in_memory(data, self.shown)
        self.steps = len(data.train) // plan.batch_size
        self.classes = len(data.class_names)
        with self._scope():
            self.model = networks.build_trainee(config, self.classes)
        self.saved = networks.build_saved(config, self.classes)
        self.progress = Progress(plan.batch_size)
        self.phase = -1
        self.orders = Orders()

    def fit(self) -> None:
        """Train to the end, from where the newest checkpoint stands."""
        if self.is_chief:
            self.config.to_yaml(self.directory / CONFIG)  # a restart may have changed what may change
            write_text(self.directory / LABELS, "".join(f"{name}\n" for name in self.data.class_names))
            if self.data.skipped:
                write_text(self.directory / SKIPPED, "".join(f"{line}\n" for line in self.data.skipped))
        checkpoint = self._newest()
        if checkpoint is not None:
            self._go_on_from(checkpoint)
        _check_agreement(self.strategy, "images", _number(self.fingerprint))
        _check_agreement(self.strategy, "checkpoint in the run folder", self._done())
        with self.orders.listening(), training_progress(self.shown) as bar:
            callbacks = self._callbacks(bar)
            for phase in phases_of(self.config):
                for epochs, first_step in phase.portions(self.progress.epoch, self.progress.step):
                    if has_waited(self.progress, self.config.run.early_stopping):
                        return
                    self._compile(phase, checkpoint)
                    started = [_ContinueMetrics(checkpoint)] if checkpoint and first_step else []
                    self._fit_epochs(phase, epochs, first_step, [*started, *callbacks])
                    checkpoint = None
                    if self.model.stop_training:  # early, or by a callback of the user's
                        return

    def report(self) -> None:
        """Measure the saved model, not the one in memory, on the test split; draw it and write it down."""
        if self.is_chief:
            model, history = load_model(self.directory), columns(self.progress.rows)
            if self.config.run.precise_batch_norm:
                recompute_statistics(model, self.files, self.config.run.precise_batch_norm)
                with written_whole(self.directory / MODEL) as beside:
                    model.save(beside)
            evaluation = evaluate_model(model, self.files, "test", self.shown)
            best = best_epoch(history)
            metrics = {
                "test_accuracy": evaluation.accuracy,
                "test_loss": evaluation.loss,
                **({} if evaluation.top5 is None else {"test_top5": evaluation.top5}),
                "validation_accuracy": history["val_accuracy"][best],
                "validation_loss": history["val_loss"][best],
                "best_epoch": best + 1,
                "epochs": len(history["epoch"]),
                "seconds": sum(history["seconds"]),
                "parameters": model.count_params(),
                "train_images": len(self.data.train),
                "validation_images": len(self.data.validation),
                "test_images": len(self.data.test),
                "skipped_images": len(self.data.skipped),
                "data_sha256": self.fingerprint,
            }
            write_report(self.directory, self.config, history, evaluation, metrics, self.files)
            # The numbers come last: they are the sign that the run is complete.
            write_text(self.directory / METRICS, json.dumps(metrics, indent=2) + "\n")
        replicas.barrier(self.model)

    def _newest(self) -> Checkpoint | None:
        """The checkpoint to go on from, if it is of the same data."""
        checkpoint, damaged = newest_checkpoint(self.directory / FOLDER)
        for line in damaged:
            logging.getLogger(__name__).warning("Going on from an older checkpoint; damaged: %s", line)
        if checkpoint is not None and checkpoint.record["data_sha256"] != self.fingerprint:
            raise ValueError(
                f"data.source={self.config.data.source!r} has changed since the checkpoint in "
                f"{str(self.directory)!r} was written: bring the same images back, or train in another folder"
            )
        return checkpoint

    def _go_on_from(self, checkpoint: Checkpoint) -> None:
        """Take the place in the run; with another batch size, by the images seen."""
        self.progress = Progress(**checkpoint.record["progress"])
        if self.progress.batch_size != self.plan.batch_size:
            seen = self.progress.step * self.progress.batch_size
            self.progress.step = min(seen // self.plan.batch_size, self.steps - 1)
            self.progress.batch_size = self.plan.batch_size

    def _compile(self, phase: Phase, checkpoint: Checkpoint | None) -> None:
        """Give the model the phase's optimizer, and the state of the checkpoint, if there is one."""
        if self.phase == phase.optimizer:
            return
        is_first, self.phase = self.phase < 0, phase.optimizer
        with self._scope():
            networks.compile_trainee(
                self.model,
                self.saved,
                self.config,
                rate=networks.learning_rates(self.config, self.steps, self.plan.batch_size),
                labels=self.data.train.labels,
                plan=self.plan,
                frozen=phase.frozen,
            )
        if checkpoint is not None:
            state.restore(self.model, checkpoint, phase.optimizer)
        elif is_first:
            replicas.spread_seeds(self.model)
        self.model.optimizer.iterations.assign(self._done())

    def _fit_epochs(
        self, phase: Phase, epochs: range, first_step: int, callbacks: list[keras.callbacks.Callback]
    ) -> None:
        """One call of `fit`; the first epoch may have begun already."""
        plan = self.plan
        part = Part(plan.batch_size, plan.cluster.index, plan.cluster.size, len(plan.devices))
        if keras.backend.backend() != "tensorflow":
            part = Part(plan.batch_size)  # Keras divides the batch itself
        count = len(self.data.validation)
        self.model.fit(
            self._distributed(self.data.training(epochs.start, first_step, phase.size, part)),
            validation_data=self._distributed(self.data.evaluation("validation", part).repeat()),
            validation_steps=-(-count // plan.batch_size),
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            steps_per_epoch=self.steps - first_step,
            callbacks=callbacks,
            shuffle=False,  # the pipeline has shuffled
            verbose=0,
        )

    def _distributed(self, batches: "tf.data.Dataset") -> Any:
        """The pipeline as the strategy wants it; it has taken this worker's part already."""
        if self.strategy is None:
            return batches
        return self.strategy.distribute_datasets_from_function(lambda context: batches)

    def _callbacks(self, bar: Bar) -> list[keras.callbacks.Callback]:
        """The last ones see what the first ones have noted."""
        run, chief = self.config.run, self.is_chief
        found = [
            EvaluateAverages(),
            KeepProgress(self.progress, self.directory / HISTORY if chief else None),
            SaveBest(self.progress, self._save_model, MODEL, LAST),
        ]
        if run.early_stopping:
            found.append(StopEarly(self.progress, run.early_stopping))
        if is_wanted(self.shown):
            found.append(TrainingProgress(bar, run.epochs, self.steps, self.plan.batch_size, self._done()))
        if self.options.tensorboard and chief:
            found.append(WriteSummaries(self.directory / TENSORBOARD))
        found += self.options.callbacks
        return [
            *found,
            SaveCheckpoints(
                self.progress, self._save_checkpoint, self.steps, run.checkpoint_steps, self.orders
            ),
        ]

    def _save_checkpoint(self) -> None:
        """Write the state, on the chief; nobody goes on before it is on the disk."""
        facts = {"data_sha256": self.fingerprint}
        checkpoint = state.capture(self.model, self.progress, self.phase, facts)
        if self.is_chief:
            save_checkpoint(self.directory / FOLDER, self._done(), checkpoint)
        replicas.barrier(self.model)

    def _save_model(self, names: list[str]) -> None:
        """Write the averaged weights, or the weights where there are no averages, as a model."""
        replicas.sync(self.model)
        replicas.average_statistics(self.model)
        replicas.swap_averages(self.model)
        if self.is_chief:
            networks.copy_weights(self.model, self.saved)
            with written_whole(self.directory / names[0]) as beside:
                self.saved.save(beside)
            for name in names[1:]:
                with written_whole(self.directory / name) as beside:
                    shutil.copyfile(self.directory / names[0], beside)
        replicas.swap_averages(self.model)

    def _done(self) -> int:
        """Finished steps of the run."""
        return self.progress.epoch * self.steps + self.progress.step

    def _scope(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.strategy is None else self.strategy.scope()


class _ContinueMetrics(keras.callbacks.Callback):
    """Let the means of an interrupted epoch go on; `fit` has reset them when the epoch begins."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self._checkpoint: Checkpoint | None = checkpoint

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set them, once."""
        if self._checkpoint is not None:
            state.restore_metrics(self.model, self._checkpoint)
            self._checkpoint = None


def _number(text: str) -> int:
    """A hash that fits into 63 bits."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _check_agreement(strategy: "tf.distribute.Strategy | None", what: str, number: int) -> None:
    """Refuse workers that have not the same; all of them must call it, and all raise."""
    if len(set(replicas.gathered(strategy, [number])[:, 0])) > 1:
        raise ValueError(
            f"the workers do not have the same {what}: give all of them the same command, and a run folder "
            "and images that all of them see"
        )


@contextmanager
def _peers_named(plan: Plan) -> Iterator[None]:
    """Say in words what TensorFlow's errors mean where a worker waits for one that is gone."""
    if plan.cluster.size == 1:
        yield
        return
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        if error.error_code not in GONE:
            raise
        raise PeerError(
            "another worker has ended or cannot be reached; its own output says why. Start all again: "
            f"they go on from the last checkpoint ({type(error).__name__})"
        ) from error


def check_fit(config: TrainConfig, plan: Plan) -> None:
    """Refuse what the devices cannot do."""
    parts = config.run.micro_batches
    if plan.replica_batch_size % parts:
        raise ValueError(
            f"run.micro_batches={parts} must divide {plan.replica_batch_size}, a device's images in a step"
        )
    if (config.augment.mixup or config.augment.cutmix) and plan.replica_batch_size % 2:
        raise ValueError(
            f"augment.mixup and augment.cutmix mix pairs: a device's {plan.replica_batch_size} images a step "
            "must be an even number"
        )

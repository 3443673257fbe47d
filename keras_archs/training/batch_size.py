"""find_batch_size: what fits into memory, and how fast it trains, tried out in a process of its own.

That process may run out of memory, or be killed for it, without harm to the one that asks. It is told a size
on each line of its standard input, and answers with what it measured on a line of its standard output.
"""

import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import keras
import numpy as np
from rich.console import Console

from keras_archs.training.cluster import Cluster
from keras_archs.training.config import TrainConfig
from keras_archs.training.data import load_data
from keras_archs.training.lr_finder import compiled_trainee
from keras_archs.training.phases import phases_of
from keras_archs.training.progress import is_wanted
from keras_archs.training.schedules import Constant
from keras_archs.training.strategies import Plan, make_plan, start

COMMAND = (sys.executable, "-m", "keras_archs.training.batch_size")
# A plan wants a batch before its size is known: up to 16 devices can share this one.
ANY_BATCH = math.lcm(*range(1, 17))
FASTER = 1.05  # a size that is not so much faster than the one before is no gain
WITHOUT_GAIN = 2  # sizes in a row, after which larger ones are not tried
# Images that batch normalization averages over at least, if they fit: with fewer, errors rise. Wu and He
# (2018), figure 1, arXiv:1803.08494.
ENOUGH = 16
MEMORY_SHARE = 0.7  # of what is available: the rest is for the data, and for what grows faster than expected
WARM_UP, TIMED = 2, 3  # steps
# Control groups of version 2 and 1: how /proc/self/cgroup names them, where they are, their limit, what they
# use, and what of that is a cache that gives way.
GROUPS = (
    (r"^0::/(.*)$", "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        r"^\d+:(?:[^:]+,)?memory(?:,[^:]+)?:/(.*)$",
        "sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)
FIRST_TO_BE_KILLED = "1000"  # where memory runs out in spite of all, let the kernel take the child


@dataclass(frozen=True)
class Trial:
    """One size that was tried.

    Attributes:
        size: Images a step over all devices.
        images_per_second: How many it trains on, without reading them; None where it failed.
        peak_bytes: Most memory in use, of the fullest GPU or of the process; None where that is not known.
    """

    size: int
    images_per_second: float | None
    peak_bytes: int | None


@dataclass(frozen=True)
class BatchSizes:
    """What was tried, and what to take.

    Attributes:
        chosen: Images a step over all devices, for `run.batch_size`.
        tried: In the order of the sizes.
        reason: Why no larger size was tried.
    """

    chosen: int
    tried: tuple[Trial, ...]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON.

        Returns:
            Values by name.
        """
        return asdict(self)


def find_batch_size(
    config: TrainConfig, plan: Plan | None = None, *, limit: int | None = None, progress: bool | None = None
) -> BatchSizes:
    """Try larger and larger batches, and choose the smallest of those that are as fast as the fastest.

    Sizes double from the smallest one that devices, micro-batches, pairs of mixed images and repeated images
    can share, as long as they fit into memory and the training split, and get faster. Batches that are too
    small for batch normalization are chosen only if no larger one works. Images are random, of the largest
    size in training. On a GPU, call it before TensorFlow uses that GPU in this process.

    Args:
        config: What is to be trained; its batch size is not used.
        plan: On which devices, of this machine; its batch size is not used. None means all visible GPUs, or
            the CPU.
        limit: The largest size to try; None means the training split.
        progress: True, False, or None for "only on a terminal".

    Returns:
        The size, and what was tried.

    Raises:
        ValueError: If not even the smallest size works, the configuration does not fit data or model, or the
            plan has several workers, each of which could find another size.
    """
    plan = plan or make_plan("auto", Cluster((), 0, "this machine alone"), ANY_BATCH)
    if plan.cluster.size > 1:
        raise ValueError(
            f"run.batch_size='auto' is for one machine, but {plan.cluster.source} names {plan.cluster.size}: "
            "each could find another size; give a number"
        )
    data = load_data(config, progress=progress)
    most = len(data.train) if limit is None else min(limit, len(data.train))
    smallest = smallest_batch(config, plan.replicas)
    if smallest > most:
        raise ValueError(
            f"run.batch_size='auto': the smallest size that devices, micro-batches, pairs and repeats can "
            f"share is {smallest}, but at most {most} is possible, with {len(data.train)} training images"
        )
    request = {
        "config": config.to_dict(),
        "strategy": plan.strategy,
        "devices": plan.devices,
        "classes": len(data.class_names),
    }
    memory = available_memory() if plan.devices[0].startswith("CPU") else math.inf
    console = Console(stderr=True, quiet=not is_wanted(progress))
    with console.status("trying batch sizes") as status, _child(request) as child:
        enough = ENOUGH * plan.replicas * config.run.micro_batches
        limits = _Limits(most, MEMORY_SHARE * memory, enough)
        return _try_sizes(child, smallest, limits, status.update)


def smallest_batch(config: TrainConfig, replicas: int) -> int:
    """Find the size of which every batch of a run must be a multiple.

    Args:
        config: Its micro-batches, repeated images, and whether pairs are mixed.
        replicas: Copies of the model that share a batch.

    Returns:
        Images a step over all devices.
    """
    mixed = config.augment.mixup or config.augment.cutmix
    return math.lcm(replicas * math.lcm(config.run.micro_batches, 2 if mixed else 1), config.data.repeats)


def available_memory(root: Path = Path("/")) -> int:
    """Find how much memory this process may still take: of the machine, and of its control groups' limits.

    Containers and Slurm jobs are killed at the limit of a control group, which /proc/meminfo does not show.

    Args:
        root: Where proc and sys are.

    Returns:
        Bytes.
    """
    meminfo = root / "proc/meminfo"
    if not meminfo.exists():  # macOS
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return min([1024 * _entry(meminfo, "MemAvailable"), *_left_in_groups(root)])


def _left_in_groups(root: Path) -> Iterator[int]:
    """What the limits of this process's control groups, and of those around them, leave."""
    mine = root / "proc/self/cgroup"
    for pattern, mount, limit, used, cache in GROUPS:
        for name in re.findall(pattern, mine.read_text() if mine.exists() else "", re.MULTILINE):
            # In a container, the group may be the root, under a name that is not seen there.
            for group in (Path(name), *Path(name).parents):
                folder = root / mount / group
                if (folder / limit).exists() and (most := (folder / limit).read_text().strip()) != "max":
                    taken = int((folder / used).read_text()) - _entry(folder / "memory.stat", cache)
                    yield int(most) - taken


def _entry(path: Path, name: str) -> int:
    """A number of a file with lines like 'name: 12 kB'."""
    found = re.search(rf"^{name}:?\s+(\d+)", path.read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"{path} has no number for {name}")
    return int(found[1])


@dataclass(frozen=True)
class _Limits:
    """The largest batch, the bytes that may be used, and from which size on speed counts."""

    most: int
    memory: float
    enough: int


def _try_sizes(child: "_Child", smallest: int, limits: _Limits, show: Callable[[str], None]) -> BatchSizes:
    """Double the size until there is a reason not to."""
    tried: list[Trial] = []
    size, reason = smallest, None
    while reason is None:
        show(f"trying a batch of {size}")
        answer = child.ask(str(size))
        tried.append(Trial(size, answer.get("images_per_second"), answer.get("peak_bytes")))
        failure = f"{size} failed: {answer['error']}" if "error" in answer else None
        reason = failure or _reason_to_stop(tried, child.first_bytes, limits)
        size *= 2
    speeds = {t.size: t.images_per_second for t in tried if t.images_per_second is not None}
    if not speeds:
        raise ValueError(f"run.batch_size='auto': not even the smallest batch works: {reason}")
    enough = {size: speed for size, speed in speeds.items() if size >= limits.enough}
    fast = [size for size, speed in enough.items() if speed * FASTER >= max(enough.values())]
    return BatchSizes(min(fast, default=max(speeds)), tuple(tried), reason)


def _reason_to_stop(tried: Sequence[Trial], first_bytes: int, limits: _Limits) -> str | None:
    """Why the size after the last one that was tried, which worked, is not tried."""
    last, size = tried[-1], 2 * tried[-1].size
    if size > limits.most:
        return f"{size} would be more than {limits.most}"
    speeds = [trial.images_per_second or 0.0 for trial in tried if trial.size >= limits.enough]
    speeds = speeds[-WITHOUT_GAIN - 1 :]
    if len(speeds) > WITHOUT_GAIN and all(b < FASTER * a for a, b in pairwise(speeds)):
        return f"larger ones are not faster: {', '.join(f'{speed:.0f}' for speed in speeds)} images/s"
    expected = expected_bytes(first_bytes, last, size)
    if expected > limits.memory:
        needed, allowed = (f"{count / 2**30:.1f} GiB" for count in (expected, limits.memory))
        return f"{size} would need about {needed} of memory, and {allowed} may be used"
    return None


def expected_bytes(first_bytes: int, trial: Trial, size: int) -> float:
    """What another size would need, if memory grows in proportion to it.

    Optimizer and gradients, which do not grow, are taken to grow along: that errs on the safe side.

    Args:
        first_bytes: In use before the first step.
        trial: A size that worked.
        size: The other one.

    Returns:
        Bytes; 0 where it is not known.
    """
    if trial.peak_bytes is None:
        return 0.0
    return first_bytes + (trial.peak_bytes - first_bytes) * size / trial.size


class _Child:
    """The process that tries sizes."""

    def __init__(self, process: subprocess.Popen[str], log: IO[bytes], request: dict[str, Any]) -> None:
        """Wait until it has built the model."""
        self._process, self._log = process, log
        answer = self.ask(json.dumps(request))
        if "error" in answer:
            raise ValueError(answer["error"])
        self.first_bytes: int = answer["first_bytes"]

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line and wait for the answer; if the process ends instead, that is the answer's error."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        with suppress(BrokenPipeError):
            stdin.write(f"{line}\n")
            stdin.flush()
        answer = stdout.readline()
        return json.loads(answer) if answer else {"error": self._end()}

    def _end(self) -> str:
        """How it ended."""
        code = self._process.wait()
        if code < 0:
            return f"its process was killed by {signal.Signals(-code).name}"
        self._log.seek(0)
        last_line = self._log.read().decode(errors="replace").strip().rpartition("\n")[2]
        return f"its process ended with code {code}: {last_line}"


@contextmanager
def _child(request: dict[str, Any]) -> Iterator[_Child]:
    """Start the process; what it and TensorFlow have to say stays off the terminal."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": keras.backend.backend()}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **quiet},
        )
        try:
            yield _Child(process, log, request)
        finally:
            process.kill()
            process.communicate()


def main() -> None:
    """The child process: a request, then sizes, on standard input; answers on standard output."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    with suppress(OSError):  # not every system has it
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_BE_KILLED)
    request = json.loads(sys.stdin.readline())
    try:
        bench = _Bench(request)
    except (ValueError, OSError) as error:
        print(json.dumps({"error": str(error)}), file=answers)
        return
    print(json.dumps({"first_bytes": _process_bytes()}), file=answers)
    for line in sys.stdin:
        try:
            answer = bench.measure(int(line))
        except Exception as error:  # a full memory has many names
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        print(json.dumps(answer), file=answers)


class _Bench:
    """The network of a run, on random images."""

    def __init__(self, request: dict[str, Any]) -> None:
        """Build and compile it."""
        self._config = TrainConfig.from_dict(request["config"])
        self._classes = request["classes"]
        cluster, devices = Cluster((), 0, "this machine alone"), tuple(request["devices"])
        self._plan = Plan(request["strategy"], cluster, devices, ANY_BATCH)
        self._strategy = start(self._plan, deadline=0.0)
        labels = np.arange(self._classes)  # class weights cost the same whatever they are
        self._model = compiled_trainee(
            self._config, self._classes, labels, Constant(1e-3), self._plan, self._strategy
        )

    def measure(self, size: int) -> dict[str, Any]:
        """Train some steps of a size."""
        import tensorflow as tf

        uses_gpus = keras.backend.backend() == "tensorflow" and self._plan.devices[0].startswith("GPU")
        gpus = self._plan.devices if uses_gpus else ()
        for gpu in gpus:
            tf.config.experimental.reset_memory_stats(gpu)
        clock = _Clock()
        self._model.fit(
            self._batches(size),
            steps_per_epoch=WARM_UP + TIMED,
            callbacks=[clock],
            shuffle=False,
            verbose=0,
        )
        # The shortest time: whatever disturbs a step makes it longer.
        speed = size / np.diff(clock.ends[WARM_UP - 1 :]).min()
        peaks = [tf.config.experimental.get_memory_info(gpu)["peak"] for gpu in gpus]
        if self._plan.devices[0].startswith("CPU"):
            peaks = [_process_bytes()]
        return {"images_per_second": speed, "peak_bytes": max(peaks, default=None)}

    def _batches(self, size: int) -> Any:
        """The same images in every step."""
        import tensorflow as tf

        config, random = self._config, np.random.default_rng(0)
        count = size if self._strategy is None else size // self._plan.replicas
        side = max(phase.size for phase in phases_of(config))
        images = random.standard_normal((count, side, side, 3), np.float32)
        labels = random.integers(self._classes, size=count, dtype=np.int32)
        mixed = config.augment.mixup or config.augment.cutmix
        targets = np.eye(self._classes, dtype=np.float32)[labels] if mixed else labels
        batches = tf.data.Dataset.from_tensors((images, targets)).repeat()
        if self._strategy is None:
            return batches
        return self._strategy.distribute_datasets_from_function(lambda context: batches)


class _Clock(keras.callbacks.Callback):
    """Note when each step ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Wait for the device, then look at the clock."""
        float((logs or {})["loss"])
        self.ends.append(time.perf_counter())


def _process_bytes() -> int:
    """The most memory that this process has had in use."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would begin with what the process had that started this one
        return 1024 * _entry(status, "VmHWM")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # on macOS, in bytes


if __name__ == "__main__":
    main()

"""Which devices train: one, all of this machine, or those of several. The work itself is tf.distribute's."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import keras

from keras_archs.choices import check_choice
from keras_archs.quiet import quiet_tensorflow
from keras_archs.training.cluster import Cluster, ends_if_late, wait_for_peers

if TYPE_CHECKING:
    import tensorflow as tf

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")


@dataclass(frozen=True)
class Plan:
    """How a training is spread.

    Attributes:
        strategy: "one_device", "mirrored" or "multi_worker".
        cluster: The workers.
        devices: What trains in this process; every worker is taken to have as many.
        batch_size: Images a step, over all replicas together.
    """

    strategy: str
    cluster: Cluster
    devices: tuple[str, ...]
    batch_size: int

    @property
    def replicas(self) -> int:
        """How many copies of the model train, over all workers."""
        return self.cluster.size * len(self.devices)

    @property
    def replica_batch_size(self) -> int:
        """Images a step in each copy."""
        return self.batch_size // self.replicas

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON.

        Returns:
            Values by name.
        """
        return {
            **asdict(self),
            "replicas": self.replicas,
            "replica_batch_size": self.replica_batch_size,
        }


def make_plan(strategy: str, cluster: Cluster, batch_size: int) -> Plan:
    """Decide how to train. Opens no socket, and leaves TensorFlow's runtime as it is.

    Args:
        strategy: One of `STRATEGIES`; "auto" takes all workers, else all GPUs, else the one device.
        cluster: The workers.
        batch_size: Images a step, over all replicas together.

    Returns:
        The plan.

    Raises:
        ValueError: If the strategy does not suit the cluster, or the replicas can't share the batch evenly.
    """
    check_choice("strategy", strategy, STRATEGIES)
    several = cluster.size > 1
    if keras.backend.backend() not in ("tensorflow", "jax"):
        raise ValueError(f"KERAS_BACKEND={keras.backend.backend()!r}: training needs 'tensorflow' or 'jax'")
    if several and keras.backend.backend() == "jax":
        raise ValueError(
            f"{cluster.source} names {cluster.size} workers, but with KERAS_BACKEND='jax' this trains on the "
            "devices of one; use 'tensorflow'"
        )
    found = _list_devices()
    if strategy == "auto":
        several_gpus = len(found) > 1 and found[0].startswith("GPU")
        strategy = "multi_worker" if several else "mirrored" if several_gpus else "one_device"
    if several and strategy != "multi_worker":
        raise ValueError(
            f"strategy={strategy!r} is for one worker, but {cluster.source} names {cluster.size}; use "
            "'multi_worker' or 'auto'"
        )
    if strategy == "multi_worker" and not several:
        raise ValueError(
            f"strategy='multi_worker' needs several workers, but there is one ({cluster.source}); name them "
            "with hosts and task_index or TF_CONFIG, or use 'auto'"
        )
    # tf.distribute trains on one CPU a worker, however many there are.
    all_train = strategy == "mirrored" or (several and found[0].startswith("GPU"))
    plan = Plan(strategy, cluster, found if all_train else found[:1], batch_size)
    if batch_size < 1 or batch_size % plan.replicas:
        below = max(batch_size, 0) // plan.replicas * plan.replicas
        sizes = [str(size) for size in (below, below + plan.replicas) if size]
        raise ValueError(
            f"run.batch_size={batch_size} is for all {plan.replicas} replicas ({_share(plan)}) and must be a "
            f"multiple of {plan.replicas}; nearest: {' or '.join(sizes)}"
        )
    return plan


def plan_lines(plan: Plan) -> list[tuple[str, str]]:
    """The plan for people.

    Args:
        plan: The plan.

    Returns:
        Rows of label and value.
    """
    cluster = plan.cluster
    here = cluster.name(cluster.index) if cluster.workers else cluster.source
    return [
        ("strategy", plan.strategy),
        ("workers", f"{cluster.size}, from {cluster.source}" if cluster.workers else "1"),
        ("this process", f"{here}, chief" if cluster.is_chief and cluster.size > 1 else here),
        ("devices", ", ".join(plan.devices)),
        ("replicas", f"{plan.replicas} ({_share(plan)})"),
        ("batch size", f"{plan.batch_size} = {plan.replicas} x {plan.replica_batch_size}"),
    ]


def start(
    plan: Plan, deadline: float, report: Callable[[str], None] | None = None
) -> "tf.distribute.Strategy | None":
    """Make the strategy. With several workers, before any other TensorFlow operation of this process.

    Args:
        plan: The plan.
        deadline: Seconds that the other workers may take to come, and again for TensorFlow to connect to
            them. If it does not, this process ends with exit code 1: there is no way to call TensorFlow back.
        report: Takes a line for people, now and then, that says who is missing.

    Returns:
        The strategy; None for one device, which plain Keras trains, with XLA where that helps, and on JAX,
        where Keras' own `DataParallel` has been set.

    Raises:
        PeerError: If another worker did not answer in time, or the own port is taken.
    """
    if keras.backend.backend() == "jax":
        if plan.strategy == "mirrored":
            devices = [device.lower() for device in plan.devices]
            keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
        return None
    if plan.strategy == "one_device":
        return None
    if plan.strategy == "multi_worker":
        wait_for_peers(plan.cluster, deadline, report)
        with _sigterm_kept(), ends_if_late(plan.cluster, deadline), quiet_tensorflow():
            return _multi_worker_strategy(plan)
    import tensorflow as tf

    with quiet_tensorflow():
        return tf.distribute.MirroredStrategy(list(plan.devices))


def _list_devices() -> tuple[str, ...]:
    """The GPUs, else the CPUs. `list_logical_devices` would start the runtime, too early for workers."""
    if keras.backend.backend() == "jax":
        return tuple(device.upper() for device in keras.distribution.list_devices())
    import tensorflow as tf

    with quiet_tensorflow():
        for kind in ("GPU", "CPU"):
            parts = [
                tf.config.get_logical_device_configuration(device) or [None]
                for device in tf.config.list_physical_devices(kind)
            ]
            if parts:
                return tuple(f"{kind}:{index}" for index in range(sum(map(len, parts))))
    raise ValueError("TensorFlow finds neither a GPU nor a CPU")


def _multi_worker_strategy(plan: Plan) -> "tf.distribute.Strategy":
    """Connect to the other workers, which are all there."""
    import tensorflow as tf

    gpus = sum(device.startswith("GPU") for device in plan.devices)
    options = tf.distribute.experimental
    collective = options.CollectiveCommunication.AUTO if gpus else options.CollectiveCommunication.RING
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(plan.cluster.workers)}),
        task_type="worker",
        task_id=plan.cluster.index,
        num_accelerators={"GPU": gpus},
        rpc_layer="grpc",
    )
    return tf.distribute.MultiWorkerMirroredStrategy(
        resolver, options.CommunicationOptions(implementation=collective)
    )


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Give SIGTERM back to its handler: TensorFlow, once connected, takes it and lets it drop."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        # Python handles signals in its main thread, and knows no handler that others have set.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _share(plan: Plan) -> str:
    """'2 workers, 4 GPUs each'."""
    kind, count = plan.devices[0].split(":")[0], len(plan.devices)
    devices = f"{count} {kind}" if count == 1 else f"{count} {kind}s"
    return f"{plan.cluster.size} workers, {devices} each" if plan.cluster.size > 1 else devices

"""Who trains together: the workers that a command line, a launcher or a scheduler names, and their roll call.

Nothing here needs TensorFlow, and finding a cluster opens no socket. `ends_if_late` runs this file as a
program of its own, so it imports the standard library only.
"""

import faulthandler
import itertools
import json
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

DEFAULT_PORT = 12345
# Slurm names no port, so the job's number gives one. Ports from 32768 up are lent to outgoing connections.
SLURM_PORTS = range(12000, 32000)

# The tasks that train, in rank order: the first worker is the chief.
ROLES = {
    "TF_CONFIG": ("chief", "master", "worker"),
    "CLUSTER_SPEC": ("workerpool0", "workerpool1"),
}
# A name, an IPv4 address, or an IPv6 address in brackets.
ADDRESS = re.compile(r"(?P<host>[^\s:/,\[\]]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d+))?")
# n[1-3,7]-ib,login: names with any number of bracket groups, commas between them.
NODE = r"(?:[^\s,\[\]]|\[[^\[\]]+\])+"
RANGE = re.compile(r"(\d+)(?:-(\d+))?")
TASKS = re.compile(r"(\d+)(?:\(x(\d+)\))?")

CONNECT_SECONDS = 1.0
RETRY_SECONDS = 0.2
LINGER_SECONDS = 0.5
REPORT_SECONDS = 5.0
LAST_CALL_SECONDS = 2.0

Value = TypeVar("Value")


class PeerError(OSError):
    """A worker of the cluster can't be reached, or this one can't open its own port."""


@dataclass(frozen=True)
class Cluster:
    """The workers that train one model together.

    Attributes:
        workers: Their addresses, "host:port", in rank order; empty if this machine trains alone.
        index: Rank of this process.
        source: Where that was read, for people.
    """

    workers: tuple[str, ...]
    index: int
    source: str

    def __post_init__(self) -> None:
        """Check every address and the rank.

        Raises:
            ValueError: If an address has no good port or comes twice, or the rank is none.
        """
        for worker in self.workers:
            split_address(worker)
        twice = [worker for worker in self.workers if self.workers.count(worker) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} is named twice: each worker needs a host or a port of its own")
        if not 0 <= self.index < self.size:
            raise ValueError(
                f"task index {self.index} is out of range: {_plural(self.size, 'worker')}, counted from 0"
            )

    @property
    def size(self) -> int:
        """How many processes train."""
        return max(1, len(self.workers))

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes files and talks."""
        return self.index == 0

    def name(self, index: int) -> str:
        """'worker 1, 10.0.0.2:2222', as messages name it."""
        return f"worker {index}, {self.workers[index]}"


def find_cluster(
    hosts: str | None = None, task_index: int | None = None, environment: Mapping[str, str] = os.environ
) -> Cluster:
    """Find the workers that the caller, TF_CONFIG, CLUSTER_SPEC or Slurm names; else this one is alone.

    Args:
        hosts: "host:port,host:port" in rank order, the same for every worker; port 12345 where none is given.
        task_index: Which of them this process is, from 0; if None, the JOB_COMPLETION_INDEX of a Kubernetes
            Indexed Job.
        environment: The environment variables.

    Returns:
        The cluster.

    Raises:
        ValueError: If a value is malformed; it is named, with what is expected.
    """
    if hosts is not None:
        return _from_hosts(hosts, task_index, environment)
    if task_index is not None:
        raise ValueError(f"task_index={task_index} needs hosts='host:port,host:port', all in rank order")
    for variable in ROLES:
        # Kubeflow, Vertex AI and people set TF_CONFIG; Vertex AI sets CLUSTER_SPEC beside it.
        if (text := environment.get(variable, "").strip()) and (cluster := _from_json(variable, text)):
            return cluster
    # srun alone sets it; a batch script or an interactive shell is one process.
    if environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        return _from_slurm(environment)
    return Cluster((), 0, "this machine alone")


def split_address(address: str) -> tuple[str, int]:
    """Split "host:port".

    Args:
        address: The address.

    Returns:
        Host and port.

    Raises:
        ValueError: If it is none.
    """
    found = ADDRESS.fullmatch(address)
    if not found or not found["port"]:
        raise ValueError(f"{address!r} is no address; expected host:port, as in 10.0.0.2:{DEFAULT_PORT}")
    if not 0 < int(found["port"]) < 2**16:
        raise ValueError(f"{address!r}: {found['port']} is no port; expected 1 to 65535")
    return found["host"].strip("[]"), int(found["port"])


def expand_nodes(text: str) -> list[str]:
    """Expand Slurm's short form of a list of hosts.

    Args:
        text: Such as "n[1-3,7],gpu-a[08-10]-ib"; of several groups of brackets the last counts fastest.

    Returns:
        The names in the order of the list, which is the order of Slurm's ranks.

    Raises:
        ValueError: If the text is malformed.
    """
    if not re.fullmatch(f"{NODE}(,{NODE})*", text):
        raise ValueError("expected names of hosts, such as n[1-3,7],gpu-a[08-10]")
    names = []
    for node in re.findall(NODE, text):
        # Text and brackets take turns.
        parts = re.split(r"\[(.+?)\]", node)
        choices = [_numbers(part) if place % 2 else [part] for place, part in enumerate(parts)]
        names += ["".join(choice) for choice in itertools.product(*choices)]
    return names


def wait_for_peers(cluster: Cluster, seconds: float, report: Callable[[str], None] | None = None) -> None:
    """Wait until every worker is there, before TensorFlow, which may wait for ever, is asked to connect.

    This worker listens on its port, which TensorFlow needs afterwards, while it calls the others. A port
    answers if anybody listens: a worker that waits as well, or one that has gone on to TensorFlow.

    Args:
        cluster: The workers; one alone has nobody to wait for.
        seconds: How long to wait.
        report: Takes a line for people, now and then, that says who is missing.

    Raises:
        PeerError: If a worker did not answer in time, or the own port is taken.
    """
    if cluster.size == 1:
        return
    _, port = split_address(cluster.workers[cluster.index])
    try:
        # As TensorFlow does: on all addresses, of both kinds where there are both.
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        listener = socket.create_server(("", port), family=family, backlog=cluster.size, dualstack_ipv6=both)
    except OSError as error:
        raise PeerError(
            f"{cluster.name(cluster.index)}: this process can't open port {port} ({error.strerror}); "
            f"is another training running here? {cluster.source} names the port"
        ) from error
    with listener:
        silent = silent_peers(cluster, seconds, report)
        if not silent:
            # Those who call now and then must find this worker, until TensorFlow's server answers for it.
            time.sleep(LINGER_SECONDS)
    if silent:
        raise PeerError(
            f"{'; '.join(silent)} did not answer within {seconds:g} s; is it running, and is the port open?"
        )


def silent_peers(cluster: Cluster, seconds: float, report: Callable[[str], None] | None = None) -> list[str]:
    """Call every other worker until it answers or the time is over.

    Args:
        cluster: The workers.
        seconds: How long to try.
        report: Takes a line for people, now and then, that says who is missing.

    Returns:
        The workers whose port did not answer, as messages name them, in rank order.
    """
    end, stop = time.monotonic() + seconds, threading.Event()
    peers = [index for index in range(cluster.size) if index != cluster.index]
    with ThreadPoolExecutor(max_workers=cluster.size) as pool:
        calls = {
            pool.submit(_answers, cluster.workers[index], end, stop): cluster.name(index) for index in peers
        }
        try:
            while missing := wait(calls, timeout=REPORT_SECONDS).not_done:
                if report:
                    names = [name for call, name in calls.items() if call in missing]
                    report(f"Waiting for {'; '.join(names)}")
        finally:
            # Ctrl-C must not wait for the deadline.
            stop.set()
    return [name for call, name in calls.items() if not call.result()]


@contextmanager
def ends_if_late(cluster: Cluster, seconds: float) -> Iterator[None]:
    """End this process with exit code 1 if a block takes longer, and say why on the terminal.

    For TensorFlow's connect: it may wait for ever, can't be interrupted and lets no other Python thread run.
    So another process looks for the reason, and the timer of `faulthandler`, which needs no Python, makes an
    end.

    Args:
        cluster: The workers.
        seconds: How long the block may take.

    Yields:
        Nothing.
    """
    watch = [sys.executable, "-I", __file__, json.dumps({**asdict(cluster), "seconds": seconds})]
    with (
        open(os.devnull, "w") as nowhere,
        # It ends with its standard input. Ctrl-C is not for it.
        subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True),
    ):
        faulthandler.dump_traceback_later(seconds + LAST_CALL_SECONDS + 1, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _watch(workers: list[str], index: int, source: str, seconds: float) -> None:
    """Say why a worker could not start, unless standard input ends in time."""
    if select.select([sys.stdin], [], [], seconds)[0]:
        return
    silent = silent_peers(Cluster(tuple(workers), index, source), LAST_CALL_SECONDS)
    if silent:
        reason = f"{'; '.join(silent)} did not answer; is it still running, and is the port open?"
    else:
        reason = "all ports answer; are they those of other programs, or is http_proxy set without no_proxy?"
    print(f"TensorFlow did not connect to the other workers within {seconds:g} s: {reason}", file=sys.stderr)


def _answers(address: str, end: float, stop: threading.Event) -> bool:
    """Whether somebody listens at the address before the clock says `end`."""
    while True:
        with (
            # A host whose name is not known yet is an OSError, too: Kubernetes publishes names with the pods.
            suppress(OSError),
            socket.create_connection(split_address(address), timeout=CONNECT_SECONDS) as connection,
        ):
            # Linux may lend this socket the very port it calls, and connect it to itself.
            if connection.getsockname() != connection.getpeername():
                return True
        if time.monotonic() >= end or stop.wait(min(RETRY_SECONDS, max(0.0, end - time.monotonic()))):
            return False


def _from_hosts(hosts: str, task_index: int | None, environment: Mapping[str, str]) -> Cluster:
    """The cluster of --hosts and --task-index."""
    if task_index is None:
        text = environment.get("JOB_COMPLETION_INDEX")
        if text is None:
            raise ValueError(
                f"hosts={hosts!r} needs task_index, this worker's place among them from 0; only a Kubernetes "
                "Indexed Job says it in JOB_COMPLETION_INDEX"
            )
        with _reading("JOB_COMPLETION_INDEX", text):
            task_index = _index(text)
    with _reading("hosts", hosts):
        return Cluster(_addresses(hosts.split(",")), task_index, "--hosts")


def _from_json(variable: str, text: str) -> Cluster | None:
    """The cluster of TF_CONFIG or CLUSTER_SPEC; None if it names none."""
    from keras_archs.choices import nearest

    roles = ROLES[variable]
    with _reading(variable, text):
        spec = json.loads(text)
        if isinstance(spec, dict) and not spec.get("cluster"):
            return None
        if not _is_cluster(spec):
            example = {
                "cluster": {roles[-1]: ["host:port", "host:port"]},
                "task": {"type": roles[-1], "index": 0},
            }
            raise ValueError(f"expected JSON such as {json.dumps(example)}")
        pools, task = spec["cluster"], spec["task"]
        for role in (*pools, task["type"]):
            if role not in roles:
                raise ValueError(
                    f"a task of type {role!r} is not accepted: all train alike, without parameter servers "
                    f"and evaluators.{nearest(role, roles)} Accepted: {', '.join(roles)}"
                )
        index, pool = _index(task["index"]), pools.get(task["type"], [])
        if index >= len(pool):
            raise ValueError(f"task index {index} is out of range: {len(pool)} of type {task['type']!r}")
        before = itertools.takewhile(lambda role: role != task["type"], roles)
        rank = index + sum(len(pools.get(role, [])) for role in before)
        return Cluster(_addresses(host for role in roles for host in pools.get(role, [])), rank, variable)


def _is_cluster(spec: Any) -> bool:
    """Whether JSON has the parts of a cluster and a task, of the right types."""
    return (
        isinstance(spec, dict)
        and isinstance(spec["cluster"], dict)
        and all(
            isinstance(pool, list) and all(isinstance(host, str) for host in pool)
            for pool in spec["cluster"].values()
        )
        and isinstance(spec.get("task"), dict)
        and {"type", "index"} <= set(spec["task"])
    )


def _from_slurm(environment: Mapping[str, str]) -> Cluster:
    """The cluster of the tasks that one srun started; they fill one node after the other."""
    size = _srun(environment, "SLURM_STEP_NUM_TASKS", _index)
    nodes = _srun(environment, "SLURM_STEP_NODELIST", expand_nodes)
    counts = _srun(environment, "SLURM_STEP_TASKS_PER_NODE", _tasks_per_node)
    rank = _srun(environment, "SLURM_PROCID", _index)
    job = _srun(environment, "SLURM_JOB_ID", _index)
    if len(counts) != len(nodes) or sum(counts) != size:
        text, names = environment["SLURM_STEP_TASKS_PER_NODE"], environment["SLURM_STEP_NODELIST"]
        raise ValueError(
            f"SLURM_STEP_TASKS_PER_NODE={text!r} are {len(counts)} counts with the sum {sum(counts)}; "
            f"expected {len(nodes)} (SLURM_STEP_NODELIST={names!r}) with the sum SLURM_STEP_NUM_TASKS={size}"
        )
    # Jobs of the same shape that share a node, as those of an array do, get ports beside each other.
    first = SLURM_PORTS[job * max(counts) % len(SLURM_PORTS)]
    places = [(node, local) for node, count in zip(nodes, counts, strict=True) for local in range(count)]
    with _reading("SLURM_PROCID", environment["SLURM_PROCID"]):
        cluster = Cluster(tuple(f"{node}:{first + local}" for node, local in places), rank, "Slurm")
    node, here = places[rank][0], environment.get("SLURMD_NODENAME")
    if here not in (None, node):
        raise ValueError(
            f"SLURMD_NODENAME={here!r}, but task {rank} is expected on {node!r}; start with srun "
            "--distribution=block, which fills one node after the other"
        )
    return cluster


def _srun(environment: Mapping[str, str], variable: str, read: Callable[[str], Value]) -> Value:
    """One variable that srun sets, read."""
    if variable not in environment:
        tasks = environment["SLURM_STEP_NUM_TASKS"]
        raise ValueError(
            f"{variable} is missing, but SLURM_STEP_NUM_TASKS={tasks!r} says that srun started several "
            "tasks; pass it on to the training, or name the workers with hosts and task_index"
        )
    with _reading(variable, environment[variable]):
        return read(environment[variable])


def _tasks_per_node(text: str) -> list[int]:
    """Slurm's "2(x3),1" is 2, 2, 2, 1."""
    counts = []
    for part in text.split(","):
        found = TASKS.fullmatch(part)
        if not found:
            raise ValueError("expected tasks for each node, such as 2(x3),1")
        counts += [int(found[1])] * int(found[2] or 1)
    return counts


def _numbers(text: str) -> list[str]:
    """The numbers inside brackets: "08-10,12" is 08, 09, 10, 12, as wide as they are written."""
    numbers = []
    for part in text.split(","):
        found = RANGE.fullmatch(part)
        first, last = found.group(1, 2) if found else ("", "")
        if not found or int(last or first) < int(first):
            raise ValueError(f"[{text}] is no list of numbers; expected such as [1-3,7] or [08-10]")
        numbers += [str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1)]
    return numbers


def _addresses(hosts: Iterator[str] | list[str]) -> tuple[str, ...]:
    """Hosts with a port each, as given or the default."""
    found = ((host.strip(), ADDRESS.fullmatch(host.strip())) for host in hosts)
    return tuple(f"{host}:{DEFAULT_PORT}" if match and not match["port"] else host for host, match in found)


def _index(value: Any) -> int:
    """A count from 0, from JSON or from text."""
    if not re.fullmatch(r"\d+", str(value)):
        raise ValueError(f"{value!r} is no number from 0")
    return int(value)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


@contextmanager
def _reading(variable: str, value: str) -> Iterator[None]:
    """Errors of a block name the variable and its value."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{variable}={value!r:.300}: {error}") from error


if __name__ == "__main__":
    _watch(**json.loads(sys.argv[1]))

"""Who trains together: recorded environments, the examples' own, and roll calls on loopback."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from keras_archs.training import cluster as cluster_module
from keras_archs.training import strategies
from keras_archs.training.cluster import (
    DEFAULT_PORT,
    Cluster,
    PeerError,
    expand_nodes,
    find_cluster,
    wait_for_peers,
)
from keras_archs.training.strategies import make_plan, plan_lines, start

EXAMPLES = Path(__file__).parents[2] / "examples"
ALONE = Cluster((), 0, "this machine alone")
FOUR = Cluster(("a:1", "b:1", "c:1", "d:1"), 2, "--hosts")

# What srun sets, as far as it is about tasks and nodes.
SLURM = {
    "SLURM_JOB_ID": "22902023",
    "SLURM_JOB_NODELIST": "n[9-10]",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "n[9-10]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "1",
    "SLURMD_NODENAME": "n10",
}
CHIEF, *WORKERS = (
    f"cmle-training-workerpool{pool}-b644f12a34-{index}:2222" for pool, index in ((0, 0), (1, 0), (1, 1))
)
JOB = {"job": '{"python_module":"","package_uris":[],"job_args":[]}', "environment": "cloud"}


@pytest.fixture(autouse=True)
def clean_state():
    """Nothing to clean, which takes its time: no model is made here."""


def vertex(rank):
    """What Vertex AI sets beside each other on the chief (rank 0) and its workers."""
    pools = {"workerpool0": [CHIEF], "workerpool1": WORKERS}
    pool, role, index = ("workerpool0", "chief", 0) if rank == 0 else ("workerpool1", "worker", rank - 1)
    tf_config = {
        "cluster": {"worker": WORKERS, "chief": [CHIEF]},
        "task": {"type": role, "index": index, "cloud": "b644f12a34"},
    }
    return {
        "CLUSTER_SPEC": json.dumps(
            {"cluster": pools, "task": {"type": pool, "index": index, "trial": ""}} | JOB
        ),
        "TF_CONFIG": json.dumps(tf_config | JOB),
    }


def tfjob(name, namespace, replicas, index):
    """What Kubeflow's training operator sets."""
    hosts = [f"{name}-worker-{worker}.{namespace}.svc:2222" for worker in range(replicas)]
    task = {"type": "worker", "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": hosts}, "task": task, "environment": "cloud"})}


def ports(count):
    """Free ports, which nobody keeps."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    numbers = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return numbers


def loopback(count, index=0):
    return Cluster(tuple(f"127.0.0.1:{port}" for port in ports(count)), index, "--hosts")


def test_nothing_set_is_this_machine_alone():
    assert find_cluster(environment={}) == ALONE
    # A batch script, before srun; an interactive step of one task; TensorFlow's own empty configuration.
    assert find_cluster(environment={"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}) == ALONE
    assert find_cluster(environment=SLURM | {"SLURM_STEP_NUM_TASKS": "1"}) == ALONE
    assert find_cluster(environment={"TF_CONFIG": "{}", "CLUSTER_SPEC": ""}) == ALONE
    assert ALONE.size == 1
    assert ALONE.is_chief


def test_hosts_come_first_and_get_a_port():
    found = find_cluster("a, 10.0.0.2:2222,[fe80::1]", 1, vertex(0) | SLURM)
    assert found == Cluster((f"a:{DEFAULT_PORT}", "10.0.0.2:2222", f"[fe80::1]:{DEFAULT_PORT}"), 1, "--hosts")
    assert not found.is_chief
    assert find_cluster("a,b", None, {"JOB_COMPLETION_INDEX": "1"}).index == 1


def test_vertex_puts_the_primary_pool_first_with_either_variable():
    for rank in range(3):
        environment = vertex(rank)
        for source in ("TF_CONFIG", "CLUSTER_SPEC"):
            assert find_cluster(environment=environment) == Cluster((CHIEF, *WORKERS), rank, source)
            environment.pop("TF_CONFIG", None)


def test_kubeflow():
    found = find_cluster(environment=tfjob("tftest", "default", 3, 2))
    assert (found.workers[2], found.index) == ("tftest-worker-2.default.svc:2222", 2)


def test_slurm_keeps_the_order_of_nodes_and_needs_no_gpu():
    found = find_cluster(environment=SLURM)
    port = 12000 + 22902023 % 20000
    assert found == Cluster((f"n9:{port}", f"n10:{port}"), 1, "Slurm")


def test_slurm_with_several_tasks_a_node():
    environment = SLURM | {
        "SLURM_STEP_NODELIST": "gpu-a[08-10],login",
        "SLURM_STEP_NUM_TASKS": "7",
        "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
        "SLURM_PROCID": "3",
        "SLURMD_NODENAME": "gpu-a09",
    }
    found = find_cluster(environment=environment)
    first = int(found.workers[0].split(":")[1])
    places = [("gpu-a08", 0), ("gpu-a08", 1), ("gpu-a09", 0), ("gpu-a09", 1), ("gpu-a10", 0), ("gpu-a10", 1)]
    assert found.workers == tuple(f"{node}:{first + local}" for node, local in [*places, ("login", 0)])
    # The next job, which an array may start on the same nodes, has other ports.
    following = find_cluster(environment=environment | {"SLURM_JOB_ID": "22902024"})
    assert not set(found.workers) & set(following.workers)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", "n1"),
        ("n[9-10]", "n9 n10"),
        ("n[1-3,7],gpu-a[08-10]", "n1 n2 n3 n7 gpu-a08 gpu-a09 gpu-a10"),
        ("n[098-101]-ib.x,a", "n098-ib.x n099-ib.x n100-ib.x n101-ib.x a"),
        ("r[1-2]n[2,01]", "r1n2 r1n01 r2n2 r2n01"),
        ("z,b[2,1]", "z b2 b1"),
    ],
)
def test_node_lists(text, names):
    assert expand_nodes(text) == names.split()


@pytest.mark.parametrize(
    "text", ["", "n[1-2", "n]", "n[]", "a,,b", "n[2-1]", "n[a]", "n[1-2-3]", "n[[1]]", "a b"]
)
def test_node_lists_that_are_none(text):
    with pytest.raises(ValueError, match="expected"):
        expand_nodes(text)


def tf_config(**values):
    return {
        "TF_CONFIG": json.dumps(
            {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}} | values
        )
    }


@pytest.mark.parametrize(
    ("hosts", "index", "environment", "message"),
    [
        ("a,b", None, {}, "hosts='a,b' needs task_index.*JOB_COMPLETION_INDEX"),
        (None, 1, {}, "task_index=1 needs hosts"),
        ("a,b", 2, {}, "hosts='a,b': task index 2 is out of range: 2 workers"),
        ("a,b,a", 0, {}, "'a:12345' is named twice"),
        ("a:0,b", 0, {}, "'a:0': 0 is no port; expected 1 to 65535"),
        ("a:65536,b", 0, {}, "65536 is no port"),
        ("a:x,b", 0, {}, "'a:x' is no address; expected host:port"),
        ("a,,b", 0, {}, "'' is no address"),
        ("fe80::1,b", 0, {}, "'fe80::1' is no address"),
        ("a,b", None, {"JOB_COMPLETION_INDEX": "-1"}, "JOB_COMPLETION_INDEX='-1': '-1' is no number"),
        (None, None, {"TF_CONFIG": "{'cluster'"}, "TF_CONFIG=.*: Expecting property name"),
        (None, None, {"TF_CONFIG": "[1]"}, 'TF_CONFIG=.*expected JSON such as {"cluster"'),
        (None, None, {"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}}'}, "expected JSON such as"),
        (None, None, tf_config(cluster={"worker": {"0": "a:1"}}), "expected JSON such as"),
        (None, None, tf_config(cluster={"worker": ["a:1"], "ps": ["b:1"]}), "type 'ps' is not accepted"),
        (None, None, tf_config(task={"type": "evaluator", "index": 0}), "type 'evaluator' is not accepted"),
        (None, None, tf_config(task={"type": "Worker", "index": 0}), "Did you mean 'worker'?"),
        (None, None, tf_config(task={"type": "worker", "index": 1}), "task index 1 is out of range: 1 of"),
        (None, None, tf_config(task={"type": "chief", "index": 0}), "task index 0 is out of range: 0 of"),
        (None, None, tf_config(task={"type": "worker", "index": True}), "'?True'? is no number"),
        (None, None, {"CLUSTER_SPEC": '{"cluster": {"workerpool2": []}}'}, "CLUSTER_SPEC=.*expected"),
        (None, None, SLURM | {"SLURM_STEP_NODELIST": "n[9"}, r"SLURM_STEP_NODELIST='n\[9': expected names"),
        (None, None, SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1x2"}, "TASKS_PER_NODE='1x2': expected"),
        (None, None, SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2"}, "1 counts with the sum 2; expected 2"),
        (None, None, SLURM | {"SLURM_PROCID": "2"}, "SLURM_PROCID='2': task index 2 is out of range"),
        (None, None, SLURM | {"SLURM_JOB_ID": "x"}, "SLURM_JOB_ID='x': 'x' is no number"),
        (None, None, SLURM | {"SLURMD_NODENAME": "n9"}, "SLURMD_NODENAME='n9'.*distribution=block"),
        (None, None, {"SLURM_STEP_NUM_TASKS": "2"}, "SLURM_STEP_NODELIST is missing"),
    ],
)  # fmt: skip
def test_malformed_values_are_named(hosts, index, environment, message):
    with pytest.raises(ValueError, match=message):
        find_cluster(hosts, index, environment)


def test_workers_wait_for_each_other():
    addresses, reports = loopback(2).workers, []
    late = threading.Timer(0.5, wait_for_peers, [Cluster(addresses, 1, "--hosts"), 10])
    late.start()
    began = time.monotonic()
    wait_for_peers(Cluster(addresses, 0, "--hosts"), 10, reports.append)
    assert 0.5 <= time.monotonic() - began < 5
    late.join(10)
    assert not late.is_alive()
    assert not reports
    # TensorFlow, which needs the ports next, finds them free. It answers for those who have gone on to it.
    servers = [socket.create_server(("", int(address.split(":")[1]))) for address in addresses]
    servers[0].close()
    with servers[1]:
        wait_for_peers(Cluster(addresses, 0, "--hosts"), 10)


def test_missing_workers_are_named(monkeypatch):
    monkeypatch.setattr(cluster_module, "REPORT_SECONDS", 0.1)
    alone, reports = loopback(3, index=1), []
    peer = socket.create_server(("127.0.0.1", int(alone.workers[0].split(":")[1])))
    with peer, pytest.raises(PeerError) as error:
        wait_for_peers(alone, 0.5, reports.append)
    assert str(error.value).startswith(
        f"worker 2, {alone.workers[2]} did not answer within 0.5 s; is it running"
    )
    assert reports[0] == f"Waiting for worker 2, {alone.workers[2]}"
    socket.create_server(("127.0.0.1", int(alone.workers[1].split(":")[1]))).close()


def test_a_host_without_a_name_does_not_answer():
    with pytest.raises(PeerError, match=r"worker 1, nobody\.invalid:1 did not answer"):
        wait_for_peers(Cluster((*loopback(1).workers, "nobody.invalid:1"), 0, "--hosts"), 0.1)


def test_a_taken_port_is_named():
    pair = loopback(2)
    port = int(pair.workers[0].split(":")[1])
    with (
        socket.create_server(("", port)),
        pytest.raises(PeerError, match=f"can't open port {port} .*--hosts"),
    ):
        wait_for_peers(pair, 1)


def test_who_trains_alone_waits_for_nobody():
    wait_for_peers(ALONE, 0)
    wait_for_peers(Cluster(("nobody.invalid:1",), 0, "TF_CONFIG"), 0)


STUCK = """
import importlib.util, re, sys, time
spec = importlib.util.spec_from_file_location("cluster", sys.argv[1])
cluster = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cluster)
pair, seconds = cluster.Cluster(tuple(sys.argv[2:]), 0, "--hosts"), cluster.LAST_CALL_SECONDS
cluster.LAST_CALL_SECONDS = -1
with cluster.ends_if_late(pair, 0.5):
    pass
time.sleep(0.7)  # in time: nothing happens later
cluster.LAST_CALL_SECONDS = seconds
with cluster.ends_if_late(pair, 0.2):
    re.match("(a+)+$", "a" * 40 + "b")  # takes years, and no other Python thread runs meanwhile
"""


def test_a_start_that_hangs_ends_the_process():
    pair = loopback(2)
    command = [sys.executable, "-I", "-c", STUCK, cluster_module.__file__, *pair.workers]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.startswith("TensorFlow did not connect to the other workers within 0.2 s: worker 1, ")
    assert f" {pair.workers[1]} did not answer; " in ended.stderr
    assert ended.stderr.count("\n") == 1


@contextmanager
def gpus(monkeypatch, count):
    with monkeypatch.context() as patch:
        patch.setattr(strategies, "_list_devices", lambda: tuple(f"GPU:{index}" for index in range(count)))
        yield


@pytest.mark.parametrize(
    ("count", "strategy", "cluster", "resolved", "devices", "replicas"),
    [
        (1, "auto", ALONE, "one_device", 1, 1),
        (4, "auto", ALONE, "mirrored", 4, 4),
        (4, "one_device", ALONE, "one_device", 1, 1),
        (4, "auto", Cluster(("a:1",), 0, "TF_CONFIG"), "mirrored", 4, 4),
        (4, "auto", FOUR, "multi_worker", 4, 16),
        (1, "multi_worker", FOUR, "multi_worker", 1, 4),
    ],
)
def test_plans(monkeypatch, count, strategy, cluster, resolved, devices, replicas):
    with gpus(monkeypatch, count):
        plan = make_plan(strategy, cluster, 64)
    assert (plan.strategy, len(plan.devices), plan.replicas) == (resolved, devices, replicas)
    assert plan.replica_batch_size == 64 // replicas


def test_a_plan_on_cpus_leaves_one_each(monkeypatch):
    monkeypatch.setattr(strategies, "_list_devices", lambda: ("CPU:0", "CPU:1"))
    assert make_plan("auto", ALONE, 8).devices == ("CPU:0",)
    assert make_plan("mirrored", ALONE, 8).devices == ("CPU:0", "CPU:1")
    assert make_plan("multi_worker", FOUR, 8).devices == ("CPU:0",)


def test_a_plan_as_text_and_as_json(monkeypatch):
    with gpus(monkeypatch, 2):
        plan = make_plan("auto", FOUR, 64)
    assert plan_lines(plan) == [
        ("strategy", "multi_worker"),
        ("workers", "4, from --hosts"),
        ("this process", "worker 2, c:1"),
        ("devices", "GPU:0, GPU:1"),
        ("replicas", "8 (4 workers, 2 GPUs each)"),
        ("batch size", "64 = 8 x 8"),
    ]
    assert json.loads(json.dumps(plan.to_dict())) == {
        "strategy": "multi_worker",
        "cluster": {"workers": ["a:1", "b:1", "c:1", "d:1"], "index": 2, "source": "--hosts"},
        "devices": ["GPU:0", "GPU:1"],
        "batch_size": 64,
        "replicas": 8,
        "replica_batch_size": 8,
    }


@pytest.mark.parametrize(
    ("strategy", "cluster", "batch_size", "message"),
    [
        ("mirored", ALONE, 8, "strategy='mirored' is not accepted. Did you mean 'mirrored'?"),
        ("one_device", FOUR, 8, "strategy='one_device' is for one worker, but --hosts names 4"),
        ("mirrored", FOUR, 8, "strategy='mirrored' is for one worker"),
        ("multi_worker", ALONE, 8, r"needs several workers, but there is one \(this machine alone\)"),
        (
            "auto",
            FOUR,
            21,
            r"batch_size=21 is for all 8 replicas \(4 workers, 2 GPUs each\).*nearest: 16 or 24",
        ),
        ("auto", ALONE, 1, r"batch_size=1 is for all 2 replicas \(2 GPUs\).*nearest: 2$"),
        ("auto", ALONE, 0, "batch_size=0 .*nearest: 2$"),
    ],
)
def test_plans_that_do_not_work(monkeypatch, strategy, cluster, batch_size, message):
    with gpus(monkeypatch, 2), pytest.raises(ValueError, match=message):
        make_plan(strategy, cluster, batch_size)


def test_one_device_is_plain_keras():
    plan = make_plan("auto", ALONE, 8)
    assert plan_lines(plan)[:3] == [
        ("strategy", "one_device"),
        ("workers", "1"),
        ("this process", "this machine alone"),
    ]
    assert start(plan, 1) is None


def test_missing_workers_stop_a_start():
    with pytest.raises(PeerError, match=r"worker 1, .* did not answer within 0\.1 s"):
        start(make_plan("multi_worker", loopback(2), 8), 0.1)


def test_sigterm_keeps_its_handler():
    before = signal.getsignal(signal.SIGTERM)
    with strategies._sigterm_kept():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) == before


def sbatch_options():
    text = (EXAMPLES / "slurm/train.sbatch").read_text()
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", text, flags=re.MULTILINE))


def command_of(container):
    return container.get("command", []) + container.get("args", [])


def hosts_of(command):
    """The --hosts of a command, as `--hosts=X` or `--hosts X`."""
    return re.search(r"--hosts[= ](\S+)", " ".join(command))[1]


def test_example_for_slurm():
    options = sbatch_options()
    assert options["ntasks-per-node"] == "1"
    # Signals without B: reach the tasks.
    assert options["signal"].startswith("USR1@")
    nodes = int(options["nodes"])
    for rank in range(nodes):
        found = find_cluster(
            environment=SLURM
            | {
                "SLURM_STEP_NODELIST": f"n[9-{8 + nodes}]",
                "SLURM_STEP_NUM_TASKS": str(nodes),
                "SLURM_STEP_TASKS_PER_NODE": f"1(x{nodes})",
                "SLURM_PROCID": str(rank),
                "SLURMD_NODENAME": f"n{9 + rank}",
            }
        )
        assert (found.size, found.index, found.source) == (nodes, rank, "Slurm")
        assert found.workers[rank].startswith(f"n{9 + rank}:")


def run_script(script, arguments, stubs, folder):
    """Run a shell script with stand-ins for the programs it calls; they write what they get to <name>.txt."""
    for name, ending in stubs.items():
        stub = folder / name
        stub.write_text(f'#!/bin/bash\necho "$@" >> {folder}/{name}.txt\n{ending}\n')
        stub.chmod(0o755)
    path = f"{folder}:{Path(shutil.which('bash')).parent}"
    environment = {"PATH": path, "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "16"}
    return subprocess.run(["bash", script, *arguments], env=environment, timeout=60).returncode


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (1, False), (143, True)])
def test_example_for_slurm_queues_again_if_saved(tmp_path, code, requeued):
    stubs = {"srun": f"exit {code}", "scontrol": ""}
    assert run_script(EXAMPLES / "slurm/train.sbatch", [], stubs, tmp_path) == code
    assert (tmp_path / "scontrol.txt").exists() == requeued
    assert "keras-archs train --recipe" in (tmp_path / "srun.txt").read_text()


def test_example_for_two_processes(tmp_path):
    script = EXAMPLES / "local/two_processes.sh"
    assert os.access(script, os.X_OK)
    assert run_script(script, ["--recipe", "digits"], {"keras-archs": ""}, tmp_path) == 0
    commands = sorted((tmp_path / "keras-archs.txt").read_text().splitlines(), key=lambda line: line[-1])
    for index, command in enumerate(commands):
        assert command.startswith("train --recipe digits --hosts ")
        found = find_cluster(hosts_of([command]), int(command.split("--task-index ")[1]), {})
        assert (found.size, found.index) == (2, index)
    # If either fails, so does the script; a chief that fails does not leave the worker behind.
    fails = '[[ "$*" == *--task-index\\ 0* ]] && exit 3; exec sleep 30'
    assert run_script(script, [], {"keras-archs": fails}, tmp_path) == 3


def test_example_for_kubernetes():
    service, job = yaml.safe_load_all((EXAMPLES / "kubernetes/indexed-job.yaml").read_text())
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"]
    # Kubernetes names a pod <job>-<index>.<subdomain>, if the service is headless and selects the job's pods.
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert service["metadata"]["name"] == pod["subdomain"]
    names = [f"{job['metadata']['name']}-{index}.{pod['subdomain']}" for index in range(spec["completions"])]
    port = container["ports"][0]["containerPort"]
    for index in range(spec["completions"]):
        found = find_cluster(hosts_of(command_of(container)), None, {"JOB_COMPLETION_INDEX": str(index)})
        assert found == Cluster(tuple(f"{name}:{port}" for name in names), index, "--hosts")
    # The policy for exit codes holds for this container, and for pods that are not restarted in place.
    rule = spec["podFailurePolicy"]["rules"][0]["onExitCodes"]
    assert (rule["containerName"], rule["values"], pod["restartPolicy"]) == (
        container["name"],
        [143],
        "Never",
    )


def test_example_for_kubeflow():
    job = yaml.safe_load((EXAMPLES / "kubernetes/tfjob.yaml").read_text())
    workers = job["spec"]["tfReplicaSpecs"]["Worker"]
    assert workers["restartPolicy"] == "ExitCode"
    (container,) = workers["template"]["spec"]["containers"]
    assert container["name"] == "tensorflow"
    assert not any("--hosts" in part for part in command_of(container))
    for index in range(workers["replicas"]):
        environment = tfjob(**job["metadata"], replicas=workers["replicas"], index=index)
        found = find_cluster(environment=environment)
        assert (found.size, found.index, found.source) == (2, index, "TF_CONFIG")


def test_example_for_vertex():
    pools = yaml.safe_load((EXAMPLES / "vertex/config.yaml").read_text())["workerPoolSpecs"]
    assert [pool["replicaCount"] for pool in pools] == [1, len(WORKERS)]
    assert pools[0]["containerSpec"] == pools[1]["containerSpec"]
    assert not any("--hosts" in part for part in command_of(pools[0]["containerSpec"]))
    assert find_cluster(environment=vertex(2)).index == 2


def test_examples_name_only_options_that_exist():
    known = set("recipe data run-dir strategy hosts task-index start-deadline dry-run".split())
    for file in EXAMPLES.rglob("*.*"):
        text = file.read_text()
        # Commands of a shell, with the lines that continue them, and the lists of YAML.
        commands = re.findall(r"keras-archs train\b.*(?:(?<=\\)\n.*)*|^ *- --.*", text, flags=re.MULTILINE)
        used = {option for command in commands for option in re.findall(r"--([\w-]+)", command)}
        assert used, file
        assert used <= known, file

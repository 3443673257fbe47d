"""The process that tries a model out: `python probe_child.py`, started by probe.py.

It is run by its path, so that it imports the runtime and nothing else: no Keras, no TensorFlow. It reads the
model from stdin, and writes one line of JSON to stdout.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from collections import Counter
from typing import Any

from ai_edge_litert.interpreter import Interpreter

_GIB = 2**30
_CPU_SECONDS = 300


def main() -> None:
    """Read the model, run it, and say what happened."""
    content = sys.stdin.buffer.read()
    # A model can ask for any amount of memory; the machine's must not be all used up.
    _limit(resource.RLIMIT_AS, 8 * _GIB + 8 * len(content))
    _limit(resource.RLIMIT_CPU, _CPU_SECONDS)  # Holds even when the parent is gone.
    _limit(resource.RLIMIT_CORE, 0)
    try:
        print(json.dumps(run(content)))
    except (ValueError, RuntimeError, MemoryError) as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))


def _limit(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    # A system that does not know this limit refuses it; the parent's time limit is left.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def run(content: bytes) -> dict[str, Any]:
    """Run a model once, on zeros.

    Args:
        content: The flatbuffer.

    Returns:
        partitions, the number of the XNNPACK delegate's nodes; ops_outside, the name and number of the
        operations that it did not take.
    """
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    for _ in range(2):  # The first run of a delegate packs weights; the second one is as all that follow.
        interpreter.invoke()
    for tensor in interpreter.get_output_details():
        interpreter.get_tensor(tensor["index"])
    nodes = interpreter._get_ops_details()
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    ops = [node for node in nodes if node["op_name"] != "DELEGATE"]
    taken = _taken(ops, delegates)
    outside = Counter(op["op_name"] for i, op in enumerate(ops) if i not in taken)
    return {"partitions": len(delegates), "ops_outside": dict(sorted(outside.items()))}


def _taken(ops: list[dict[str, Any]], delegates: list[dict[str, Any]]) -> set[int]:
    """The numbers of the operations between the inputs and the outputs of delegates."""
    makers = {int(tensor): i for i, op in enumerate(ops) for tensor in op["outputs"]}
    taken: set[int] = set()
    for delegate in delegates:
        inputs = {int(tensor) for tensor in delegate["inputs"]}
        wanted = [int(tensor) for tensor in delegate["outputs"]]
        while wanted:
            tensor = wanted.pop()
            maker = makers.get(tensor)
            if tensor not in inputs and maker is not None and maker not in taken:
                taken.add(maker)
                wanted += [int(tensor) for tensor in ops[maker]["inputs"]]
    return taken


if __name__ == "__main__":
    main()

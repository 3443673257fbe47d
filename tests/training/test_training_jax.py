"""The trainer on JAX: one device, and two through DataParallel, interrupted and resumed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent


def test_two_jax_devices_resumed_end_with_the_weights_of_one(tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": str(FOLDER),
        "KERAS_BACKEND": "jax",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    command = [sys.executable, str(FOLDER / "jax_checks.py"), str(tmp_path)]
    child = subprocess.run(command, env=environment, timeout=300, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr[-3000:]
    results = json.loads(child.stdout)
    one, two = results["one"], results["two"]
    assert results["interrupted"]
    assert (one["devices"], two["devices"]) == (1, 2)
    for a, b in zip(one["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-5)
    np.testing.assert_allclose(one["val_loss"], two["val_loss"], rtol=1e-5)

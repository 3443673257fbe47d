"""Two replicas against one device, on two logical CPUs: see mirrored_checks.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def results():
    environment = {**os.environ, "PYTHONPATH": str(FOLDER)}
    command = [sys.executable, str(FOLDER / "mirrored_checks.py")]
    child = subprocess.run(command, env=environment, timeout=300, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr[-3000:]
    return json.loads(child.stdout)


@pytest.mark.parametrize(
    "case", ["plain", "synchronized", "clipped", "micro_batches", "micro_batches_synchronized", "averages"]
)
def test_two_replicas_end_with_the_weights_of_one_device_and_its_loss(results, case):
    assert results[case]["weights"] < 1e-5
    assert results[case]["loss"] < 1e-5


def test_keras_own_clipping_is_told_apart(results):
    assert results["keras_clips_first"]["weights"] > 1e-3


def test_statistics_drift_apart_and_are_averaged(results):
    assert results["statistics"]["apart"] > 1e-3
    assert results["statistics"]["together"] == 0
    assert results["statistics"]["mean"] < 1e-6


def test_averages_are_swapped_in_on_every_replica(results):
    assert results["swapped"]


def test_replicas_drop_other_units(results):
    first, second = results["masks"]
    assert first != second


def test_the_last_evaluation_batch_counts_exactly(results):
    assert abs(results["evaluation"]["loss"]) < 1e-6
    assert abs(results["evaluation"]["accuracy"]) < 1e-7


def test_interrupted_on_two_replicas_it_ends_bit_equal(results):
    assert results["interrupted"] == [None, None]
    assert results["resumed"][0] == results["resumed"][1]

"""One process a worker, one thread a process, no chatter."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras
import pytest


@pytest.fixture(autouse=True)
def clean_state():
    """The same random weights in every test, and no graph left behind."""
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session(free_memory=False)


@pytest.fixture(autouse=True, scope="module")
def free_memory():
    """Not after each test: among TensorFlow's million objects the collector takes up to a second."""
    yield
    gc.collect()

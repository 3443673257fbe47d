import os
from functools import partial

import converters_helpers as helpers
import pytest


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder that all processes of a test run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "converters-shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def trained(shared):
    return helpers.trained(shared)


@pytest.fixture
def converted(shared):
    return partial(helpers.converted, shared)


@pytest.fixture
def data():
    return helpers.digits()[0][1200:1500]


@pytest.fixture
def labels():
    return helpers.digits()[1][1200:1500]

import pytest
from training_helpers import tiny_model, write_images


@pytest.fixture
def photos(tmp_path):
    return write_images(tmp_path / "photos")


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr("keras_archs.training.networks.create_model", tiny_model)

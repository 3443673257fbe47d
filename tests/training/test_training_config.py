import pytest

from keras_archs.training import TrainConfig


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model", "resnet21", "model='resnet21'.*'resnet20'"),
        ("data", "", "data=''"),
        ("weights", 3, "weights=3"),
        ("image_size", 0, "image_size=0"),
        ("epochs", 0, "epochs=0 must be an integer, at least 1"),
        ("epochs", -2, "epochs=-2"),
        ("epochs", 2.5, "epochs=2.5"),
        ("epochs", True, "epochs=True"),
        ("batch_size", "32", "batch_size='32'"),
        ("seed", -1, "seed=-1"),
        ("validation_share", 0.0, r"validation_share=0.0 must be a number between 0 and 1"),
        ("test_share", 1.0, "test_share=1.0"),
        ("test_share", "a quarter", "test_share='a quarter'"),
        ("test_share", 0.95, "validation_share=0.1 and test_share=0.95 leave nothing"),
        ("learning_rate", 0.0, "learning_rate=0.0"),
        ("learning_rate", float("nan"), "learning_rate=nan"),
        ("learning_rate", float("inf"), "learning_rate=inf"),
        ("momentum", 1.0, "momentum=1.0"),
        ("weight_decay", -1e-4, "weight_decay=-0.0001"),
        ("seed", 2**32, "seed=4294967296 must be an integer, at least 0 and at most 4294967295"),
        ("warmup_epochs", -1, "warmup_epochs=-1"),
        ("warmup_epochs", 12, "warmup_epochs=12 must be a number from 0 to below epochs=12"),
        ("augment", "yes", "augment='yes' must be true or false"),
        ("flip", 1, "flip=1"),
        ("skip_unreadable", None, "skip_unreadable=None"),
    ],
)
def test_a_bad_value_is_named(field, value, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        TrainConfig(**{"epochs": 12, field: value})


def test_yaml_round_trip(tmp_path):
    config = TrainConfig(model="xception", data="some/photos", image_size=96, learning_rate=1e-3, flip=True)
    config.to_yaml(tmp_path / "config.yaml")
    assert TrainConfig.from_yaml(tmp_path / "config.yaml") == config


def test_yaml_may_name_some_fields_only(tmp_path):
    (tmp_path / "c.yaml").write_text("epochs: 3\nlearning_rate: 0.5\n")
    assert TrainConfig.from_yaml(tmp_path / "c.yaml") == TrainConfig(epochs=3, learning_rate=0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "'epoch'.*'epochs'"),
        ("epochs: 0", "epochs=0"),
        ("- 1\n- 2", "must hold lines"),
        ("", "must hold lines"),
        ("epochs: [", "is not a YAML file"),
        ("a: !!python/object/apply:os.system ['true']", "is not a YAML file"),
    ],
)
def test_bad_yaml_is_named(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        TrainConfig.from_yaml(path)
    assert "c.yaml" in str(caught.value)


def test_numbers_that_yaml_reads_as_text():
    config = TrainConfig.from_dict({"learning_rate": "1e-3", "warmup_epochs": "5e-1", "model": "resnet20"})
    assert (config.learning_rate, config.warmup_epochs) == (0.001, 0.5)
    with pytest.raises(ValueError, match="learning_rate='fast'"):
        TrainConfig.from_dict({"learning_rate": "fast"})

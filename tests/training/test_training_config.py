import dataclasses

import pytest
import yaml

from keras_archs.training import TrainConfig, list_recipes
from keras_archs.training.config import SECTIONS, differences, merged, nested


@pytest.fixture(autouse=True)
def clean_state():
    """In place of the one of all tests, which takes longer than most of these: there is no network here."""


def config_of(text):
    return TrainConfig.from_dict(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("model: {name: resnet21}", "model.name='resnet21' .*'resnet20'"),
        ("model: {name: ' '}", "model.name=' ' must be a non-empty string"),
        ("model: {weights: 3}", "model.weights=3 must be null or a non-empty string"),
        ("model: {drop_rate: 1}", "model.drop_rate=1 must be a number from 0 to below 1"),
        ("data: {source: ''}", "data.source=''"),
        ("data: {image_size: 0}", "data.image_size=0 must be an integer, at least 1"),
        ("data: {crop_share: 0}", "data.crop_share=0 must be a number above 0, at most 1"),
        ("data: {validation_share: 0}", "data.validation_share=0 must be a number between 0 and 1"),
        ("data: {test_share: a quarter}", "data.test_share='a quarter'"),
        ("data: {test_share: 0.95}", "data.validation_share=0.1 and data.test_share=0.95 leave nothing"),
        ("augment: {flip: 1}", "augment.flip=1 must be true or false"),
        ("augment: {crop: randomresized}", "augment.crop='randomresized' .*'random_resized'"),
        ("augment: {scale: [0, 1]}", r"augment.scale=\(0, 1\) must be a list of 2, each a number above 0"),
        ("augment: {scale: [0.1]}", r"augment.scale=\(0.1,\) must be a list of 2"),
        ("augment: {scale: 0.1}", "augment.scale=0.1 must be a list of 2"),
        ("augment: {scale: [1, 0.1]}", r"augment.scale=\[1, 0.1\] must be the smaller one first"),
        ("augment: {magnitude: 11}", "augment.magnitude=11 must be a number from 0 to 10"),
        ("loss: {target_threshold: 1}", "loss.target_threshold=1 must be null or"),
        ("optimizer: {learning_rate: 0}", "optimizer.learning_rate=0 must be a number above 0"),
        ("optimizer: {learning_rate: .nan}", "optimizer.learning_rate=nan"),
        ("optimizer: {learning_rate: fast}", "optimizer.learning_rate='fast'"),
        ("optimizer: {name: adam}", "optimizer.name='adam' .*'adamw'"),
        ("optimizer: {weight_decay: -1.0e-4}", "optimizer.weight_decay=-0.0001"),
        ("schedule: {warmup_epochs: 12}", "schedule.warmup_epochs=12 must be below run.epochs=12"),
        ("schedule: {name: step}", r"schedule.milestones=\[\] must name"),
        ("schedule: {milestones: [3, 2]}", r"schedule.milestones=\[3, 2\] must rise"),
        ("schedule: {milestones: [2, 2]}", r"schedule.milestones=\[2, 2\] must rise"),
        ("schedule: {begin: peak}", "schedule.begin='peak' must be one of warmup, start"),
        ("finetune: {frozen_epochs: 12}", "finetune.frozen_epochs=12 must be below run.epochs=12"),
        ("ema: {decay: 1.0}", "ema.decay=1.0"),
        ("run: {precision: float16}", "run.precision='float16' is not accepted: .*; use 'bfloat16'"),
        ("run: {epochs: 2.5}", "run.epochs=2.5"),
        ("run: {epochs: true}", "run.epochs=True"),
        ("run: {batch_size: '32'}", "run.batch_size='32' must be an integer, at least 1 or one of auto"),
        ("run: {seed: 4294967296}", "run.seed=4294967296 must be an integer, at least 0 and at most 429496"),
        ("run: {resizing: [[0.5, 16]]}", r"run.resizing=\[\[0.5, 16\]\] must begin with share 0"),
        ("run: {resizing: [[0, 16], [0.5, 24.5]]}", "run.resizing=.* must be a list, each .share of"),
        ("run: {batch_size: 6}\ndata: {repeats: 4}", "run.batch_size=6 must be a multiple of data.repeats=4"),
        ("run: 12", "run=12 must hold fields: epochs, batch_size"),
        ("run:", "run=None must hold fields"),
    ],
)
def test_a_bad_value_is_named(values, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        config_of(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("run: {epoch: 3}", "run.epoch is no field. Did you mean 'run.epochs'.*Fields of run: epochs,"),
        ("run: {learning_rate: 1}", "run.learning_rate is no field. Did you mean 'optimizer.learning_rate'"),
        ("data: {decay: 1}", "data.decay is no field. Did you mean 'optimizer.decay' or 'ema.decay'"),
        ("optimiser: {name: sgd}", "optimiser is no section. Did you mean 'optimizer'"),
        ("mixup: 0.2", "mixup is no section. Did you mean 'augment.mixup'"),
        ("zzz: 1", "zzz is no section. Sections: model, data,"),
        ("recipe: rsb_a4", "recipe='rsb_a4' is not accepted. Did you mean 'rsb_a"),
        ("recipe: [rsb_a1]", "recipe=.'rsb_a1'. is not accepted"),
    ],
)
def test_an_unknown_name_comes_with_the_nearest(values, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        config_of(values)


def test_dotted_names_lay_over_a_file_and_that_over_its_recipe():
    values = merged({"recipe": "rsb_a3", "run": {"epochs": 7, "seed": 3}}, nested({"run.epochs": 8}))
    config = TrainConfig.from_dict(values)
    assert (config.run.epochs, config.run.seed, config.run.batch_size) == (8, 3, 2048)
    changed = config.replaced({"run.epochs": 9, "schedule.warmup_epochs": "5e-1"})
    assert differences(config, changed) == {
        "run.epochs": (8, 9),
        "schedule.warmup_epochs": (5, 0.5),
    }
    assert differences(config, config) == {}
    with pytest.raises(ValueError, match=r"^epochs: write SECTION.FIELD. Did you mean 'run.epochs'"):
        nested({"epochs": 3})
    with pytest.raises(ValueError, match=r"^run is a section: write run.FIELD. Its fields are epochs, b"):
        nested({"run": 3})
    with pytest.raises(ValueError, match=r"^run.epoch is no field. Did you mean 'run.epochs'"):
        config.replaced({"run.epoch": 3})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run: {epoch: 3}", "'run.epochs'"),
        ("run: {epochs: 0}", "run.epochs=0"),
        ("- 1\n- 2", "must hold lines"),
        ("", "must hold lines"),
        ("epochs: [", "is not a YAML file"),
        ("a: !!python/object/apply:os.system ['true']", "is not a YAML file"),
    ],
)
def test_bad_yaml_is_named_with_its_file(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        TrainConfig.from_yaml(path)
    assert "c.yaml" in str(caught.value)


def test_numbers_that_yaml_reads_as_text(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("optimizer: {learning_rate: 1e-3}\naugment: {ratio: [5e-1, 2]}\n")
    config = TrainConfig.from_yaml(path)
    assert (config.optimizer.learning_rate, config.augment.ratio) == (0.001, (0.5, 2))


def test_paths_become_absolute_and_names_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("own.weights.h5", "imagenet"):  # which is a file, and no weights of this package
        (tmp_path / name).touch()
    places = {
        "digits": "digits",
        "shapes": "shapes",
        "shapes:200": "shapes:200",
        "tfds:mnist": "tfds:mnist",
        "digits-photos": str(tmp_path / "digits-photos"),
        "shapes/train-*": str(tmp_path / "shapes/train-*"),
        "~/photos": str(tmp_path / "home" / "photos"),
    }
    for source, place in places.items():
        found = config_of("model: {name: resnet50}").replaced({"data.source": source, "data.test": source})
        assert (found.located().data.source, found.located().data.test) == (place, place)
    weights = {
        "imagenet": "imagenet",
        "gone.weights.h5": "gone.weights.h5",
        "own.weights.h5": str(tmp_path / "own.weights.h5"),
    }
    for given, wanted in weights.items():
        config = TrainConfig().replaced({"model.name": "resnet50", "model.weights": given})
        assert config.located().model.weights == wanted


def test_the_defaults_are_the_digits_recipe():
    assert TrainConfig.from_recipe("digits") == TrainConfig()


def test_every_field_says_what_it_means():
    for kind in SECTIONS.values():
        for field in dataclasses.fields(kind):
            assert field.metadata["meaning"].endswith((".", ")")), field.name


# The numbers of the papers and reference scripts that each recipe names in its first line.
SOURCES = {
    "he2015": """
        run.epochs: 120, run.batch_size: 256, optimizer.learning_rate: 0.1, optimizer.momentum: 0.9,
        optimizer.weight_decay: 0.0001, optimizer.decay: coupled, optimizer.decay_norms_and_biases: true,
        schedule.name: step, schedule.milestones: [30, 60, 90], schedule.factor: 0.1,
        loss.label_smoothing: 0.0, model.drop_rate: 0.0, augment.flip: true""",
    "torchvision_v1": """
        run.epochs: 90, run.batch_size: 256, optimizer.learning_rate: 0.1, optimizer.momentum: 0.9,
        optimizer.weight_decay: 0.0001, optimizer.decay_norms_and_biases: true,
        schedule.milestones: [30, 60], schedule.factor: 0.1, data.image_size: 224, data.crop_share: 0.875""",
    "torchvision_v2": """
        run.epochs: 600, run.batch_size: 1024, optimizer.learning_rate: 0.5, optimizer.weight_decay: 0.00002,
        optimizer.decay_norms_and_biases: false, schedule.name: cosine, schedule.warmup_epochs: 5,
        schedule.begin: warmup, schedule.warmup_start: 0.01, loss.label_smoothing: 0.1, augment.mixup: 0.2,
        augment.cutmix: 1.0, augment.policy: trivial, augment.erasing: 0.1, data.repeats: 4,
        data.image_size: 176, data.eval_size: 224, ema.every: 32""",
    "rsb_a1": """
        run.epochs: 600, run.batch_size: 2048, optimizer.name: lamb, optimizer.learning_rate: 0.005,
        optimizer.weight_decay: 0.01, schedule.warmup_epochs: 5, schedule.begin: start,
        loss.name: binary_cross_entropy, loss.label_smoothing: 0.1, model.drop_path_rate: 0.05,
        augment.policy: rand, augment.magnitude: 7, augment.magnitude_std: 0.5, augment.mixup: 0.2,
        augment.cutmix: 1.0, data.image_size: 224, data.crop_share: 0.95""",
    "rsb_a2": """
        run.epochs: 300, run.batch_size: 2048, optimizer.name: lamb, optimizer.learning_rate: 0.005,
        optimizer.weight_decay: 0.02, schedule.warmup_epochs: 5, schedule.begin: start,
        loss.name: binary_cross_entropy, loss.label_smoothing: 0.0, model.drop_path_rate: 0.05,
        augment.policy: rand, augment.magnitude: 7, augment.magnitude_std: 0.5, augment.mixup: 0.1,
        augment.cutmix: 1.0, data.image_size: 224""",
    "rsb_a3": """
        run.epochs: 100, run.batch_size: 2048, optimizer.name: lamb, optimizer.learning_rate: 0.008,
        optimizer.weight_decay: 0.02, schedule.warmup_epochs: 5, schedule.begin: start,
        loss.name: binary_cross_entropy, loss.label_smoothing: 0.0, model.drop_path_rate: 0.0,
        data.repeats: 1, augment.magnitude: 6, augment.mixup: 0.1, augment.cutmix: 1.0, data.image_size: 160,
        data.eval_size: 224""",
    "resnet_rs": """
        run.epochs: 350, run.batch_size: 4096, optimizer.learning_rate: 1.6, optimizer.weight_decay: 0.00004,
        schedule.name: cosine, schedule.warmup_epochs: 5, schedule.begin: start, loss.label_smoothing: 0.1,
        ema.decay: 0.9999, model.drop_rate: 0.25, data.image_size: 160, augment.policy: rand,
        augment.layers: 2, augment.magnitude: 10""",
    "inception": """
        run.epochs: 100, run.batch_size: 1600, optimizer.name: rmsprop, optimizer.learning_rate: 0.045,
        optimizer.rho: 0.9, optimizer.epsilon: 1.0, optimizer.clip_norm: 2.0, schedule.name: exponential,
        schedule.factor: 0.94, schedule.every_epochs: 2, loss.label_smoothing: 0.1, data.image_size: 299,
        model.auxiliary_weight: 0.4""",
    "xception": """
        optimizer.name: sgd, optimizer.momentum: 0.9, optimizer.learning_rate: 0.045,
        optimizer.weight_decay: 0.00001, schedule.name: exponential, schedule.factor: 0.94,
        schedule.every_epochs: 2, model.drop_rate: 0.5, data.image_size: 299, ema.decay: 0.9999""",
    "finetune": """
        finetune.frozen_epochs: 3, finetune.batch_norm: false, finetune.layer_decay: 0.75,
        model.weights: imagenet, optimizer.name: adamw, optimizer.decay: decoupled""",
    "digits": "run.epochs: 12, run.batch_size: 32, model.name: resnet20, data.source: digits",
}


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_has_the_numbers_of_its_source_and_round_trips(tmp_path, name):
    recipe = TrainConfig.from_recipe(name)
    assert differences(recipe, recipe.replaced(yaml.safe_load(f"{{{SOURCES[name]}}}"))) == {}
    recipe.to_yaml(tmp_path / "config.yaml")
    assert TrainConfig.from_yaml(tmp_path / "config.yaml") == recipe
    assert TrainConfig.from_dict(recipe.to_dict()) == recipe

"""Counts from the papers and the zoos, and every bad argument of a constructor."""

import gc
import inspect

import keras
import numpy as np
import pytest

import keras_archs
from keras_archs import assemble
from keras_archs.assemble import constructor

# Total and trainable parameters; no source states the totals of the plain ImageNet networks.
COUNTS = {
    "resnet18": (11_699_112, 11_689_512),
    "resnet34": (21_814_696, 21_797_672),
    "resnet20": (271_098, 269_722),
    "resnet32": (466_426, 464_154),
    "resnet44": (661_754, 658_586),
    "resnet56": (857_082, 853_018),
    "resnet110": (1_736_058, 1_727_962),
    "plain20": (271_098, 269_722),
    "plain32": (466_426, 464_154),
    "plain44": (661_754, 658_586),
    "plain56": (857_082, 853_018),
    "plain110": (1_736_058, 1_727_962),
    "plain18": (None, 11_515_688),
    "plain34": (None, 21_623_848),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
    model = keras_archs.create_model(name)
    total, trainable = COUNTS[name]
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == trainable
    assert total in (None, model.count_params())


def test_signature_is_that_of_keras_applications():
    for name in ("ResNet50", "ResNet152V2", "InceptionV3", "InceptionResNetV2", "Xception", "VGG19"):
        theirs = inspect.signature(getattr(keras.applications, name)).parameters
        ours = inspect.signature(getattr(keras_archs, name)).parameters
        first = [p for p in ours.values() if p.kind != p.KEYWORD_ONLY]
        assert [(p.name, p.default) for p in first] == [(p.name, p.default) for p in theirs.values()]


def test_arguments_by_position():
    model = keras_archs.ResNet50(False, None, None, (64, 64, 3), "avg", 1000, "softmax", "mine")
    assert model.name == "mine"
    assert model.output_shape == (None, 2048)


def test_defaults_of_a_model_without_published_weights():
    model = keras_archs.ResNet20()
    assert model.output_shape == (None, 10)
    assert model.input_shape == (None, 32, 32, 3)


def test_input_tensor_with_predecessors():
    image = keras.Input((64, 64, 3), name="raw")
    scaled = keras.layers.Rescaling(1 / 127.5, -1)(image)
    model = keras_archs.ResNet18(input_tensor=scaled, classes=3)
    assert model.input is image
    assert model.output_shape == (None, 3)


def test_input_tensor_of_open_size_with_an_input_shape():
    model = keras_archs.ResNet18(input_tensor=keras.Input((None, None, 3)), input_shape=(64, 64, 3))
    assert model.input_shape == (None, None, None, 3)


def test_two_models_in_one():
    one, two = keras_archs.ResNet20(name="one"), keras_archs.ResNet20(name="two")
    both = keras.Model([one.input, two.input], keras.layers.Add()([one(one.input), two(two.input)]))
    assert both.count_params() == 2 * one.count_params()


def test_numbers_of_numpy():
    model = keras_archs.ResNet20(classes=np.int64(3), input_shape=(np.int64(16), 16, 3))
    assert (model.input_shape, model.output_shape) == ((None, 16, 16, 3), (None, 3))


def test_linear_classifier_with_weights(tmp_path):
    keras_archs.ResNet20().save_weights(tmp_path / "x.weights.h5")
    model = keras_archs.ResNet20(weights=tmp_path / "x.weights.h5", classifier_activation="linear")
    assert model.layers[-1].activation is keras.activations.linear


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "inception_v3", "xception", "vgg16"])
def test_the_smallest_size_leaves_features(name):
    side = keras_archs.get_spec(name).min_size
    model = keras_archs.create_model(name, weights=None, include_top=False, input_shape=(side, side, 3))
    assert min(model.output_shape[1:3]) >= 1


def test_any_size_with_a_pooled_classifier():
    model = keras_archs.ResNet18(input_shape=(None, None, 3), classes=3)
    assert model(np.zeros((1, 40, 50, 3), "float32")).shape == (1, 3)


def test_channels_first_builds_the_same_network(tmp_path):
    expected = keras_archs.InceptionV3(weights=None).count_params()
    keras.config.set_image_data_format("channels_first")
    try:
        model = keras_archs.InceptionV3(weights=None)
        assert model.input_shape == (None, 3, 299, 299)
        assert model.get_layer("mixed10").output.shape == (None, 2048, 8, 8)
        assert model.count_params() == expected
        assert keras_archs.ResNet20().get_layer("conv4_block1_0_pad").output.shape == (None, 64, 8, 8)
        with pytest.raises(ValueError, match="too small"):
            keras_archs.ResNet50(weights=None, input_shape=(3, 31, 64))
        saved = keras_archs.ResNet20()
        saved.save(tmp_path / "x.keras")
    finally:
        keras.config.set_image_data_format("channels_last")
    loaded = keras.saving.load_model(tmp_path / "x.keras")
    assert loaded.get_layer("conv4_block1_0_pad").output.shape == (None, 64, 8, 8)


BAD = [
    ({"input_shape": (31, 64, 3)}, r"input_shape=\(31, 64, 3\) is too small: .* at least 32"),
    ({"input_shape": (64, 31, 3)}, r"input_shape=\(64, 31, 3\) is too small"),
    ({"input_shape": (64, 64)}, r"input_shape=\(64, 64\) must be \(height, width, channels\)"),
    ({"input_shape": 64}, r"input_shape=64 must be \(height, width, channels\)"),
    ({"input_shape": (True, 64, 3)}, "three positive integers"),
    ({"include_top": "yes"}, "include_top='yes' is not accepted"),
    ({"input_shape": (64, 64, None)}, "must say how many channels"),
    ({"input_shape": (64, 0, 3)}, "three positive integers"),
    ({"input_shape": (64.0, 64, 3)}, "three positive integers"),
    ({"input_tensor": np.zeros((1, 64, 64, 3))}, "input_tensor of type ndarray must be a Keras tensor"),
    ({"pooling": "average"}, r"pooling='average' is not accepted\. Did you mean 'avg'\?"),
    ({"classes": 0}, "classes=0 must be a positive integer"),
    ({"classes": "ten"}, "classes='ten' must be a positive integer"),
    ({"classes": True}, "classes=True must be a positive integer"),
    ({"classifier_activation": "sofmax"}, "Did you mean 'softmax'"),
    ({"classifier_activation": "relu", "weights": "imagenet"}, "only 'softmax' or None"),
    ({"weights": "imagnet"}, "weights='imagnet' is no entry of resnet50. Did you mean 'imagenet'"),
    ({"weights": "a1_in1l"}, "Did you mean 'a1_in1k'"),
    ({"weights": "resnet101.a1_in1k"}, "is an entry of resnet101, not of resnet50"),
    ({"weights": "a1_in1k", "convention": "keras"}, "convention='keras' does not fit weights='a1_in1k'"),
    ({"weights": "imagenet", "convention": "torch"}, "which are of the 'keras' lineage"),
    ({"convention": "pytorch"}, "convention='pytorch' is not accepted. Did you mean 'torch'"),
    ({"include_preprocessing": True, "input_shape": (64, 64, 1)}, "needs 3 channels for mode 'caffe'"),
    ({"include_preprocessing": 1.5}, "include_preprocessing=1.5 is not accepted"),
    ({"features_only": "yes"}, "features_only='yes' is not accepted"),
    ({"features_only": True, "pooling": "avg"}, "pooling='avg' does not go with features_only=True"),
    ({"out_indices": [1]}, r"out_indices=\[1\] needs features_only=True"),
    ({"features_only": True, "out_indices": [5]}, r"out_indices=\[5\]: 5 is out of range -5 to 4"),
    ({"features_only": True, "out_indices": [-6]}, "-6 is out of range"),
    ({"features_only": True, "out_indices": [True]}, "True is out of range"),
    ({"features_only": True, "out_indices": 3}, "out_indices=3 must be a list of integers"),
    ({"features_only": True, "out_indices": []}, "must be a list of integers"),
    ({"features_only": True, "out_indices": [0, -5]}, "names a feature twice"),
    ({"output_stride": 4}, "output_stride=4 is not possible for resnet50; accepted: 8, 16, 32"),
    ({"output_stride": "8"}, "output_stride='8' is not possible"),
    ({"drop_rate": 1.0}, "drop_rate=1.0 must be a number from 0 to below 1"),
    ({"drop_rate": True}, "drop_rate=True must be a number"),
    ({"drop_path_rate": -0.1}, "drop_path_rate=-0.1 must be a number"),
    ({"zero_init_residual": "last"}, "zero_init_residual='last' is not accepted"),
    ({"kernel_regularizer": "l3"}, "kernel_regularizer='l3' is not a regularizer"),
    ({"kernel_regularizer": 1e-4}, "kernel_regularizer=0.0001 is not a regularizer"),
    ({"aux_heads": True}, "aux_heads=True is not possible for resnet50"),
    ({"weights": 3}, "weights=3 is not accepted"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_archs.ResNet50(**{"weights": None, **arguments})


def test_bad_arguments_of_single_models(tmp_path):
    with pytest.raises(ValueError, match="at least 75"):
        keras_archs.InceptionV3(weights=None, input_shape=(74, 75, 3), include_top=False)
    with pytest.raises(ValueError, match="at least 71"):
        keras_archs.Xception(weights=None, input_shape=(70, 71, 3), include_top=False)
    with pytest.raises(ValueError, match="the classifier flattens"):
        keras_archs.VGG16(weights=None, input_shape=(None, None, 3))
    with pytest.raises(ValueError, match="height and width must be 224 to 255"):
        keras_archs.VGG16(weights="imagenet", input_shape=(64, 64, 3))
    for name in ("inception_v3", "googlenet", "vgg16", "resnet20"):
        with pytest.raises(ValueError, match=f"output_stride=16 is not possible for {name}"):
            keras_archs.create_model(name, weights=None, output_stride=16)
    for name in ("inception_v3", "vgg11", "plain20"):
        for option in ("drop_path_rate", "zero_init_residual"):
            value = 0.1 if option == "drop_path_rate" else True
            with pytest.raises(ValueError, match=f"{option}=.* which has no residual blocks"):
                keras_archs.create_model(name, weights=None, **{option: value})
    with pytest.raises(ValueError, match="aux_heads=True needs include_top=True"):
        keras_archs.GoogLeNet(aux_heads=True, include_top=False)
    with pytest.raises(ValueError, match="aux_heads=True needs include_top=True"):
        keras_archs.GoogLeNet(aux_heads=True, features_only=True)
    with pytest.raises(ValueError, match="at least 299"):
        keras_archs.InceptionV4(aux_heads=True, input_shape=(298, 299, 3))
    with pytest.raises(ValueError, match="not published for resnet20"):
        keras_archs.ResNet20(weights="imagenet")
    with pytest.raises(ValueError, match="disagrees"):
        keras_archs.ResNet18(input_tensor=keras.Input((64, 64, 3)), input_shape=(32, 32, 3))
    with pytest.raises(ValueError, match=r"shape of input_tensor=.* is too small"):
        keras_archs.ResNet18(input_tensor=keras.Input((16, 64, 3)))


def test_without_the_classifier_its_arguments_do_not_matter(monkeypatch):
    monkeypatch.setattr(assemble, "load", lambda *arguments: None)
    model = keras_archs.ResNet50(include_top=False, classes=7, classifier_activation="relu", pooling="avg")
    assert model.output_shape == (None, 2048)
    model = keras_archs.VGG16(include_top=False, input_shape=(None, 64, 3))
    assert model.output_shape == (None, None, 2, 512)


def test_registry():
    assert keras_archs.list_models("resnet*1v2") == ["resnet101v2"]
    assert len(keras_archs.list_models()) == 158
    assert keras_archs.get_spec("xception").min_size == 71
    assert keras_archs.get_spec("resnet50").convention.name == "keras"
    assert keras_archs.get_spec("resnet18").convention.name == "torch"
    with pytest.raises(ValueError, match=r"name='resnt50' is not accepted\. Did you mean 'resnet50'"):
        keras_archs.create_model("resnt50")
    with pytest.raises(ValueError, match="Did you mean 'xception'"):
        keras_archs.get_spec("exception")
    assert keras_archs.get_spec("legacy_xception").convention.name == "torch"
    assert keras_archs.get_spec("inception_v1") is keras_archs.get_spec("googlenet")
    assert keras_archs.create_model("inception_v1", include_top=False).name == "googlenet"
    with pytest.raises(ValueError, match="must say height and width: the classifier flattens"):
        keras_archs.GoogLeNet(aux_heads=True, input_shape=(None, None, 3))
    with pytest.raises(TypeError, match="classses"):
        keras_archs.create_model("resnet20", classses=3)
    with pytest.raises(ValueError, match="registered already"):
        constructor("ResNet50", "resnet50", keras_archs.get_spec("resnet50"), None)


def test_the_garbage_collector_runs_again_after_a_build():
    keras_archs.ResNet20()
    assert gc.isenabled()
    gc.disable()
    try:
        keras_archs.ResNet20()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_docstring_says_where_it_comes_from():
    assert "arXiv:1610.02357" in keras_archs.Xception.__doc__
    assert keras_archs.Xception.__name__ == "Xception"
    assert all(keras_archs.assemble.CONSTRUCTORS[name].__doc__ for name in keras_archs.list_models())

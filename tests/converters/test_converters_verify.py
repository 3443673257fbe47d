import json

import keras
import numpy as np
import pytest
from converters_helpers import tiny_cnn
from keras import layers

import converters
from converters import VerificationError, verify


def small(*head, name="small"):
    return keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), *head], name=name)


def saved(model):
    return converters.convert(model, "saved_model", progress=False)


def test_artifact_of_other_weights_is_refused(data, converted, trained):
    other = tiny_cnn()
    other.set_weights([w + 0.01 * np.std(w) for w in trained.get_weights()])
    with pytest.raises(VerificationError, match=r"maximum error .* exceeds 0.0001") as caught:
        verify(converted("float32"), other, data)
    assert not caught.value.report.passed
    with pytest.raises(VerificationError, match=r"SQNR .* below 20 dB; top-1 agreement .* below 97%"):
        verify(converted("int8"), tiny_cnn(), data)


def test_artifact_of_another_model_is_refused(data, converted):
    with pytest.raises(ValueError, match=r"gives \(300, 7\), the artifact \(300, 10\)"):
        verify(converted("float32"), tiny_cnn(classes=7), data)
    with pytest.raises(ValueError, match="disagrees with model"):
        verify(converted("float32"), tiny_cnn(size=9), data)


def test_int8_report(data, labels, converted, trained):
    report = verify(converted("int8"), trained, data, labels)
    assert report.compared == "logits"
    assert report.sqnr_db >= 20
    assert report.agreement >= 0.97
    assert report.size_bytes == len(converted("int8").files["model.tflite"])
    assert json.loads(json.dumps(report.to_dict()))["passed"] is True
    assert "SQNR of the logits" in str(report)
    assert "passed" in str(report)


def test_sqnr_is_ten_log_of_the_power_ratio():
    from converters.verify import _sqnr_db

    signal = np.array([3.0, 4.0])
    assert _sqnr_db(signal, np.array([3.5, 4.0])) == pytest.approx(20.0)
    assert _sqnr_db(signal, signal) == np.inf


def test_data_may_come_in_batches(data, labels, converted, trained):
    whole = verify(converted("float32"), trained, data, labels)
    parts = verify(converted("float32"), trained, ((data[i : i + 50], 0) for i in range(0, 300, 50)), labels)
    assert (parts.samples, parts.keras_accuracy, parts.agreement) == (300, whole.keras_accuracy, 1.0)


def test_a_constant_model_does_not_pass(data):
    zeros = small(layers.Dense(5, kernel_initializer="zeros"))
    biased = small(layers.Dense(5, kernel_initializer="zeros", bias_initializer="normal"))
    for model in (zeros, biased):
        with pytest.raises(VerificationError, match="do not depend on the data") as caught:
            verify(saved(model), model, data)
        json.dumps(caught.value.report.to_dict(), allow_nan=False)


def test_nan_does_not_pass(data):
    model = small(layers.Dense(5))
    artifact = saved(model)
    model.layers[-1].bias.assign([np.nan] * 5)
    with pytest.raises(VerificationError, match=r"outputs|logits of the Keras model hold NaN"):
        verify(artifact, model, data)
    broken = saved(model)
    model.layers[-1].bias.assign([0.0] * 5)
    with pytest.raises(VerificationError, match="logits of the artifact hold NaN"):
        verify(broken, model, data)


@pytest.mark.parametrize(
    ("head", "compared", "has_classes"),
    [
        ([layers.Dense(1, activation="sigmoid")], "outputs", True),
        ([layers.Dense(1)], "outputs", False),
        ([layers.Dense(4)], "logits", True),
        ([layers.Dense(4), layers.Activation("sigmoid")], "outputs", True),
    ],
)
def test_what_is_compared(head, compared, has_classes, data):
    model = small(*head)
    report = verify(saved(model), model, data)
    assert report.compared == compared
    assert (report.agreement is not None) is has_classes


@pytest.mark.parametrize(
    "head",
    [
        [layers.Dense(4, activation="softmax")],
        [layers.Dense(4), layers.Softmax()],
        [layers.Dense(4), layers.Activation("softmax")],
        [keras.Sequential([keras.Input((64,)), layers.Dense(4, activation="softmax")])],
    ],
)
def test_logits_are_found_behind_every_softmax(head, data):
    from converters.keras_model import model_end

    model = small(*head)
    before = model.to_json()
    end = model_end(model)
    logits = np.asarray(end.logits(data))
    assert end.kind == "softmax"
    np.testing.assert_allclose(keras.ops.softmax(logits), model(data), atol=1e-6)
    assert logits.min() < 0
    assert model.to_json() == before


def test_labels_are_checked(data, labels, converted, trained):
    artifact, model = converted("float32"), trained
    with pytest.raises(ValueError, match=r"labels has shape \(299,\)"):
        verify(artifact, model, data, labels[:299])
    with pytest.raises(ValueError, match="type float64"):
        verify(artifact, model, data, labels.astype(float))
    regression = small(layers.Dense(1))
    with pytest.raises(ValueError, match="no classes"):
        verify(saved(regression), regression, data, labels)


def test_data_is_checked(data, converted, trained):
    bad = data.copy()
    bad[17] = np.nan
    with pytest.raises(ValueError, match="data holds NaN or infinity in sample 17"):
        verify(converted("float32"), trained, bad)


def test_a_feature_map_has_no_classes(data, labels):
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, layers.Conv2D(16, 3, activation="relu")(image))
    artifact = converters.convert(model, "int8", representative_data=data[:50])
    report = verify(artifact, model, data)
    assert (report.compared, report.agreement) == ("outputs", None)
    with pytest.raises(ValueError, match="the model has no classes"):
        verify(artifact, model, data, labels)


def test_labels_of_other_classes_are_refused(data, labels, converted, trained):
    with pytest.raises(ValueError, match="labels go from 1 to 10; 0 to 9 are accepted"):
        verify(converted("float32"), trained, data, labels + 1)

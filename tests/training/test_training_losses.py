"""Losses against numbers of torch and timm (tests/training/golden)."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_archs.training.losses import BinaryCrossEntropy, CrossEntropy

with np.load(Path(__file__).parent / "golden" / "losses.npz") as file:
    GOLDEN = dict(file)
LOGITS, LABELS, SHARES = GOLDEN["logits"], GOLDEN["labels"], GOLDEN["shares"]
WEIGHTS = GOLDEN["weights"].tolist()
# Ours with the arguments of the golden file's, and its targets.
CASES = {
    "ce": (CrossEntropy(), LABELS),
    "ce_smooth": (CrossEntropy(0.1), LABELS),
    "ce_weighted": (CrossEntropy(0.1, WEIGHTS), LABELS),
    "ce_shares": (CrossEntropy(), SHARES),
    "ce_shares_weighted": (CrossEntropy(0.1, WEIGHTS), SHARES),
    "bce": (BinaryCrossEntropy(), LABELS),
    "bce_smooth": (BinaryCrossEntropy(0.1), LABELS),
    "bce_shares": (BinaryCrossEntropy(0.1), SHARES),
    "bce_threshold": (BinaryCrossEntropy(0.1, target_threshold=0.2), SHARES),
    "bce_weighted": (BinaryCrossEntropy(0.1, class_weights=WEIGHTS), LABELS),
}


def values_and_gradient(loss, targets, logits):
    logits = tf.convert_to_tensor(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        values = loss.call(targets, logits)
    return values.numpy(), tape.gradient(values, logits).numpy()


def test_losses_and_gradients_equal_those_of_torch_and_timm():
    for name, (loss, targets) in CASES.items():
        values, gradient = values_and_gradient(loss, targets, LOGITS)
        assert values.shape == (6,)
        np.testing.assert_allclose(values, GOLDEN[name], rtol=1e-5, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(gradient, GOLDEN[f"{name}_gradient"], rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_loss_of_a_batch_is_the_mean_over_images_whatever_their_classes_weigh():
    for name, (loss, targets) in CASES.items():
        assert float(loss(targets, LOGITS)) == pytest.approx(GOLDEN[name].mean(), rel=1e-5), name
        assert float(loss(targets[:, None] if targets.ndim == 1 else targets, LOGITS)) == pytest.approx(
            float(loss(targets, LOGITS))
        )
        weighted = float(loss(targets, LOGITS, sample_weight=np.array([1, 0, 0, 2, 0, 0])))
        assert weighted == pytest.approx((GOLDEN[name][0] + 2 * GOLDEN[name][3]) / 6, rel=1e-5), name


def test_shares_that_are_one_hot_are_labels():
    for loss, _ in CASES.values():
        np.testing.assert_allclose(loss.call(np.eye(5)[LABELS], LOGITS), loss.call(LABELS, LOGITS), rtol=1e-6)


def test_bfloat16_logits_lose_nothing_on_the_way():
    logits = tf.cast(LOGITS, "bfloat16")
    for loss, targets in CASES.values():
        for found in (loss.call(targets, logits), loss(targets, logits)):
            assert found.dtype == "float32"
        np.testing.assert_array_equal(
            loss.call(targets, logits), loss.call(targets, tf.cast(logits, "float32"))
        )


def test_losses_are_float32_whatever_keras_is_set_to():
    keras.config.set_floatx("bfloat16")
    try:
        loss = CrossEntropy()
    finally:
        keras.config.set_floatx("float32")
    assert loss(LABELS, LOGITS) == CrossEntropy()(LABELS, LOGITS)


def test_gradients_stay_finite_where_the_network_is_very_sure():
    logits = np.array([[100, -100, 0], [-100, 100, 100], [0, 0, 0]], "float32")
    for loss in (CrossEntropy(0.1), CrossEntropy(), BinaryCrossEntropy(0.1), BinaryCrossEntropy()):
        for label in range(3):
            values, gradient = values_and_gradient(loss, np.full(3, label), logits)
            assert np.isfinite(values).all()
            assert np.isfinite(gradient).all()
    # A wrong class that is certain: full slope, not zero.
    assert values_and_gradient(CrossEntropy(), np.array([1]), logits[:1])[1][0, 1] == pytest.approx(-1)
    assert values_and_gradient(BinaryCrossEntropy(), np.array([1]), logits[:1])[1][0, 1] == pytest.approx(
        -1 / 3
    )


def test_losses_are_saved_and_loaded():
    for loss, targets in CASES.values():
        config = json.loads(json.dumps(keras.losses.serialize(loss)))
        loaded = keras.losses.deserialize(config)
        assert type(loaded) is type(loss)
        assert loaded.get_config() == loss.get_config()
        np.testing.assert_array_equal(loaded.call(targets, LOGITS), loss.call(targets, LOGITS))


BAD = {
    r"label_smoothing=1 is not accepted": lambda: CrossEntropy(1),
    r"target_threshold=1.5 is not accepted": lambda: BinaryCrossEntropy(target_threshold=1.5),
    r"class_weights=\[1.0, nan\] is not accepted": lambda: CrossEntropy(class_weights=[1, float("nan")]),
    r"class_weights has 2 numbers for 5 classes": lambda: CrossEntropy(class_weights=[1, 2]).call(
        LABELS, LOGITS
    ),
    r"targets \(6, 4\) must be \(N,\) or \(N, 5\)": lambda: CrossEntropy().call(SHARES[:, :4], LOGITS),
}


def test_bad_values_are_named():
    for message, make in BAD.items():
        with pytest.raises(ValueError, match=message):
            make()

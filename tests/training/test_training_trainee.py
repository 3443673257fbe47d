"""The model in training against arithmetic done by hand, on one device."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_helpers import normalized_model, tiny_model

from keras_archs.training import replicas
from keras_archs.training.losses import CrossEntropy
from keras_archs.training.optimizers import SGD
from keras_archs.training.trainee import Trainee

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(24, 8, 8, 3)).astype("float32")
LABELS = RANDOM.integers(0, 7, 24).astype("int32")


def trainee(build=tiny_model, rate=0.1, **options):
    keras.utils.set_random_seed(1)
    model = Trainee(build("", classes=7, classifier_activation=None), **options)
    model.compile(SGD(rate, momentum=0.9), loss=CrossEntropy())
    model.optimizer.build(model.trainable_variables)
    return model


def batches(size=8, images=IMAGES):
    return tf.data.Dataset.from_tensor_slices((images, LABELS)).batch(size)


def fit(model, *callbacks, data=None, epochs=1):
    return model.fit(data or batches(), epochs=epochs, verbose=0, shuffle=False, callbacks=list(callbacks))


def losses(model):
    logits = np.asarray(model(IMAGES))
    logits = logits - logits.max(axis=1, keepdims=True)
    shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -shares[np.arange(24), LABELS], logits


@pytest.mark.parametrize("every", [1, 2])
def test_averages_follow_the_weights_once_a_step(every):
    model = trainee(normalized_model, ema_decay=0.7, ema_every=every, micro_batches=2)
    seen = []
    expected = [np.asarray(v) for v in model.averages.sources]
    fit(model, keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append([np.asarray(v) for v in model.averages.sources])
    ))  # fmt: skip
    for step, weights in enumerate(seen, 1):
        if step % every == 0:
            expected = [0.7 * e + 0.3 * w for e, w in zip(expected, weights, strict=True)]
    assert len(seen) == 3
    for value, wanted in zip(model.averages.values, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-7)
    names = [v.name for v in model.averages.values]
    assert "bn.moving_mean" in names  # the statistics, too


def test_swapping_the_averages_in_and_out_is_exact():
    model = trainee(ema_decay=0.7)
    fit(model)
    weights, averages = model.get_layer("conv").get_weights(), [np.asarray(v) for v in model.averages.values]
    replicas.swap_averages(model)
    assert np.array_equal(model.get_layer("conv").get_weights()[0], averages[0])
    replicas.swap_averages(model)
    assert all(map(np.array_equal, model.get_layer("conv").get_weights(), weights))
    assert all(map(np.array_equal, [np.asarray(v) for v in model.averages.values], averages))


def test_micro_batches_end_with_the_weights_of_one_batch():
    whole, parts = trainee(), trainee(micro_batches=4)
    logs = [fit(model, epochs=2).history for model in (whole, parts)]
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert int(parts.optimizer.iterations) == 6
    np.testing.assert_allclose(logs[0]["loss"], logs[1]["loss"], rtol=1e-5)
    assert logs[0]["accuracy"] == logs[1]["accuracy"]


def test_evaluation_counts_each_image_by_its_weight():
    model = trainee()
    weights = np.array([1.0] * 21 + [0.0] * 3, "float32")
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS, weights)).batch(8)
    found = model.evaluate(data, return_dict=True, verbose=0)
    each, logits = losses(model)
    ranks = np.argsort(-logits, axis=1)[:21]
    assert found["loss"] == pytest.approx(each[:21].mean(), rel=1e-5)
    assert found["accuracy"] == pytest.approx(np.mean(ranks[:, 0] == LABELS[:21]))
    assert found["top5"] == pytest.approx(np.mean((ranks[:, :5] == LABELS[:21, None]).any(axis=1)))


def test_auxiliary_outputs_add_their_weighted_loss():
    keras.utils.set_random_seed(1)
    base = tiny_model("", classes=7, classifier_activation=None)
    extra = keras.layers.Dense(7, name="aux")(base.get_layer("pool").output)
    model = Trainee(keras.Model(base.inputs, [base.output, extra]), auxiliary_weight=0.3)
    model.compile(SGD(1e-9), loss=CrossEntropy())
    model.optimizer.build(model.trainable_variables)
    main, aux = model(IMAGES)
    loss = CrossEntropy()
    wanted = float(loss(LABELS, main)) + 0.3 * float(loss(LABELS, aux))
    history = fit(model).history
    assert history["loss"][0] == pytest.approx(wanted, rel=1e-5)
    evaluated = model.evaluate(batches(), return_dict=True, verbose=0)
    assert evaluated["loss"] == pytest.approx(float(loss(LABELS, main)), rel=1e-5)  # the main one alone


def test_soft_targets_train_and_count_by_their_largest_share():
    model = trainee(rate=1e-9)
    targets = 0.7 * np.eye(7, dtype="float32")[LABELS] + 0.3 * np.eye(7, dtype="float32")[(LABELS + 1) % 7]
    data = tf.data.Dataset.from_tensor_slices((IMAGES, targets)).batch(8)
    history = fit(model, data=data).history
    _, logits = losses(model)
    assert history["accuracy"][0] == pytest.approx(np.mean(logits.argmax(axis=1) == LABELS))


def test_the_step_whose_loss_is_no_number_is_known():
    model = trainee()
    assert replicas.first_bad_step(model) is None
    images = IMAGES.copy()
    images[9] = 3e38  # not NaN, which some fused ReLUs make 0
    fit(model, data=batches(images=images))
    assert replicas.first_bad_step(model) == 2


def test_bfloat16_keeps_weights_and_loss_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = trainee(normalized_model)
    finally:
        keras.config.set_dtype_policy("float32")
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    assert model.get_layer("conv").compute_dtype == "bfloat16"
    first, last = (fit(model, epochs=5).history["loss"] for _ in range(2))
    assert last[-1] < first[0]


def test_other_callbacks_and_metrics_go_on_working():
    keras.utils.set_random_seed(1)
    model = Trainee(tiny_model("", classes=7, classifier_activation=None))
    probabilities = keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="crossentropy")
    model.compile(SGD(0.1), loss=CrossEntropy(), metrics=[probabilities])
    model.optimizer.build(model.trainable_variables)
    stop = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=10)
    history = fit(model, stop, epochs=5).history
    assert len(history["loss"]) == 2  # stopped
    assert history["crossentropy"][0] == pytest.approx(history["loss"][0], rel=1e-4)

"""Another classifier on a trained model, and layers, batch normalization too, that training leaves alone."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import layers

from keras_archs.arguments import check_rate, checked_activation, checked_classes
from keras_archs.building import building
from keras_archs.choices import check_choice
from keras_archs.weights.layouts import CLASSIFIER


def replace_classifier(
    model: keras.Model,
    classes: int,
    classifier_activation: str | Callable[[Any], Any] | None = "softmax",
    drop_rate: float = 0.0,
) -> keras.Model:
    """The model with a new classifier, randomly initialised; all other layers are shared with it.

    Args:
        model: A model that ends in a dense layer; further outputs (auxiliary heads) are left off.
        classes: Outputs of the new one.
        classifier_activation: Its activation; None gives logits.
        drop_rate: Dropout in front of it.

    Returns:
        A new model from the same inputs to (N, classes). The old one still works, and shares the weights.

    Raises:
        ValueError: If an argument is not accepted, or if no dense layer ends the model.
    """
    classes = checked_classes(classes)
    check_rate("drop_rate", drop_rate)
    checked_activation(classifier_activation, True, False)
    x = _classifier(model).input
    before = [layer for layer in model.layers if isinstance(layer, layers.Dropout) and layer.output is x]
    x = before[0].input if before else x  # the old classifier's dropout goes with it
    with building():
        if drop_rate:
            x = layers.Dropout(drop_rate, name=f"{CLASSIFIER}_dropout")(x)
        x = layers.Dense(classes, activation=classifier_activation, name=CLASSIFIER)(x)
        # Not `model.input`, which a Sequential does not have.
        inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
        new = keras.Model(inputs, x, name=model.name)
    if hasattr(model, "keras_archs_name"):
        new.keras_archs_name = model.keras_archs_name
    return new


def _classifier(model: keras.Model) -> layers.Dense:
    output = model.outputs[0] if getattr(model, "outputs", None) else None
    for layer in model.layers if output is not None else ():
        if isinstance(layer, layers.Dense) and layer.output is output:
            return layer
    raise ValueError(
        f"model={model.name!r} does not end in a dense layer. Build it with include_top=True, or add the "
        "layers yourself."
    )


def freeze(model: keras.Model, until: str | None = None) -> keras.Model:
    """Freezes a model's layers from the input on.

    A frozen batch normalization also keeps its moving statistics and uses them in training: Keras does both
    for `trainable=False`, which is what fine-tuning wants.

    Args:
        model: Changed in place. Compile it again afterwards.
        until: Name of the first layer that stays trainable, with all behind it; None freezes all but the
            classifier, and the auxiliary ones.

    Returns:
        The model.

    Raises:
        ValueError: If there is no such layer.
    """
    names = [layer.name for layer in model.layers]
    if until is None:
        heads = {_classifier(model).name, *model.output_names[1:]}
        frozen = [layer for layer in model.layers if not _belongs(layer.name, heads)]
    else:
        check_choice("until", until, names)
        # Layers stand in the order of their depth: what comes before feeds `until`, or runs beside what does.
        frozen = model.layers[: names.index(until)]
    for layer in frozen:
        layer.trainable = False
    return model


def _belongs(name: str, heads: set[str]) -> bool:
    """Whether a layer is one of a classifier's: `aux1`, `aux1_fc1`."""
    return any(name == head or name.startswith(f"{head}_") for head in heads)


def unfreeze(model: keras.Model, since: str | None = None, batch_norm: bool = False) -> keras.Model:
    """Makes a model's layers trainable again, from the output back.

    Args:
        model: Changed in place. Compile it again afterwards.
        since: Name of the first layer to train, with all behind it; None means all layers.
        batch_norm: Whether batch normalization learns, too. With the few images of a fine-tuning run its
            statistics drift, so it stays frozen unless asked for.

    Returns:
        The model.

    Raises:
        ValueError: If there is no such layer.
    """
    names = [layer.name for layer in model.layers]
    if since is not None:
        check_choice("since", since, names)
    chosen = list(_flat(model.layers[names.index(since) if since else 0 :]))
    # A model that was switched off as a whole trains nothing, whatever its layers say: it is switched on, and
    # each layer then gets back what it had.
    switches = [(layer, layer.trainable) for layer in _flat(model.layers)]
    model.trainable = True
    for layer, trainable in switches:
        layer.trainable = trainable
    for layer in chosen:
        if batch_norm or not isinstance(layer, layers.BatchNormalization):
            layer.trainable = True
    return model


def _flat(found: Iterable[keras.Layer]) -> Iterable[keras.Layer]:
    """Layers, and those of models among them; a model's own switch would set all of its layers."""
    for layer in found:
        if isinstance(layer, keras.Model):
            yield from _flat(layer.layers)
        else:
            yield layer

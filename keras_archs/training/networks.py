"""The two networks of a run: the one that trains, which gives logits, and the one that is saved."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_archs.finetune import freeze, unfreeze
from keras_archs.registry import create_model, get_spec
from keras_archs.training import optimizers, schedules
from keras_archs.training.config import TrainConfig
from keras_archs.training.losses import BinaryCrossEntropy, CrossEntropy
from keras_archs.training.schedules import scaled_rate
from keras_archs.training.strategies import Plan
from keras_archs.training.trainee import Trainee
from keras_archs.weights import lineage_of

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def build_trainee(config: TrainConfig, classes: int) -> Trainee:
    """Build the network that trains, from the seed; call it in the strategy's scope.

    Args:
        config: What to train.
        classes: Outputs.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: If the model does not take the sizes, the classes or the weights.
    """
    sizes = {config.data.image_size, config.eval_size, *(size for _, size in config.run.resizing)}
    side = sizes.pop() if len(sizes) == 1 else None
    policy = keras.config.dtype_policy()
    keras.utils.set_random_seed(config.run.seed)
    keras.config.set_dtype_policy(POLICIES[config.run.precision])
    try:
        network = create_model(
            config.model.name,
            weights=config.model.weights,
            convention=config.model.convention,
            input_shape=(side, side, 3),
            classes=classes,
            classifier_activation=None,
            drop_rate=config.model.drop_rate,
            **_structure(config),
        )
    finally:
        keras.config.set_dtype_policy(policy)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # On JAX the step sees the whole batch, and Keras refuses to synchronize what is so already.
            layer.synchronized = config.run.sync_batch_norm and keras.backend.backend() == "tensorflow"
    return Trainee(
        network,
        auxiliary_weight=config.model.auxiliary_weight,
        micro_batches=config.run.micro_batches,
        ema_decay=config.ema.decay,
        ema_every=config.ema.every,
    )


def _structure(config: TrainConfig) -> dict[str, object]:
    """Arguments that some constructors lack: given only if asked for, which is an error there."""
    model = config.model
    wanted = {
        "drop_path_rate": model.drop_path_rate,
        "zero_init_residual": model.zero_init_residual,
        "aux_heads": model.auxiliary_weight > 0,
    }
    return {name: value for name, value in wanted.items() if value}


def build_saved(config: TrainConfig, classes: int) -> keras.Model:
    """Build the network that is saved: float32, probabilities, the size of evaluation, no auxiliary heads.

    Args:
        config: What is trained.
        classes: Outputs.

    Returns:
        A model whose weights are still to be set, by `copy_weights`.
    """
    model = config.model
    conventions = get_spec(model.name).conventions
    return create_model(
        model.name,
        weights=None,
        convention=lineage_of(model.name, model.weights, model.convention, conventions).convention.name,
        input_shape=(config.eval_size, config.eval_size, 3),
        classes=classes,
        drop_rate=model.drop_rate,
    )


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Give each layer of a model the weights of the layer of that name in another.

    Args:
        source: Where they are.
        target: Where they go; every layer with weights needs a namesake.
    """
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())


def learning_rates(config: TrainConfig, steps: int, batch_size: int) -> Any:
    """The learning rate as a function of the step.

    Args:
        config: Its schedule and peak.
        steps: Of an epoch.
        batch_size: Images a step over all devices, by which the peak is scaled.

    Returns:
        A Keras schedule.

    Raises:
        ValueError: If milestones are the same step, or step 0.
    """
    schedule, optimizer, epochs = config.schedule, config.optimizer, config.run.epochs
    base = optimizer.base_batch or batch_size
    peak = scaled_rate(optimizer.learning_rate, batch_size, base, optimizer.scaling)
    warmup_epochs = min(1, epochs / 10) if schedule.warmup_epochs is None else schedule.warmup_epochs
    warmup = round(warmup_epochs * steps)
    begin = warmup if schedule.begin == "warmup" else 0
    total, end = max(epochs * steps, warmup + 1), schedule.end * peak
    curve = {
        "constant": lambda: schedules.Constant(peak),
        "cosine": lambda: schedules.Cosine(peak, total, end, begin),
        "polynomial": lambda: schedules.Polynomial(peak, total, end, schedule.power, begin),
        "step": lambda: schedules.Step(peak, _drops(schedule.milestones, steps), schedule.factor),
        "exponential": lambda: schedules.Exponential(
            peak, max(1, round(schedule.every_epochs * steps)), schedule.factor
        ),
    }[schedule.name]()
    return schedules.Warmup(curve, warmup, schedule.warmup_start * peak) if warmup else curve


def _drops(milestones: Sequence[float], steps: int) -> list[int]:
    """The steps at which the rate drops."""
    drops = [round(milestone * steps) for milestone in milestones]
    if drops[0] == 0 or drops != sorted(set(drops)):
        raise ValueError(
            f"schedule.milestones={list(milestones)} are the steps {drops} with {steps} an epoch; they must "
            "be above 0 and differ"
        )
    return drops


def make_optimizer(config: TrainConfig, rate: Any, factors: dict[str, float]) -> keras.optimizers.Optimizer:
    """Make the optimizer.

    Args:
        config: Its settings.
        rate: A schedule.
        factors: On the rate, by path of a variable.

    Returns:
        The optimizer, not built.
    """
    c = config.optimizer
    shared: dict[str, Any] = {
        "learning_rate": rate,
        "weight_decay": c.weight_decay,
        "decay_norms_and_biases": c.decay_norms_and_biases,
        "rate_factors": factors,
        "global_clipnorm": c.clip_norm,
        "name": "optimizer",  # checkpoints have it in their names; Keras' own would count
    }
    moments: dict[str, Any] = {"beta_1": c.beta_1, "beta_2": c.beta_2, "epsilon": c.epsilon}
    return {
        "sgd": lambda: optimizers.SGD(momentum=c.momentum, nesterov=c.nesterov, decay=c.decay, **shared),
        "adamw": lambda: optimizers.AdamW(decay=c.decay, **moments, **shared),
        "lamb": lambda: optimizers.LAMB(**moments, **shared),
        "lars": lambda: optimizers.LARS(momentum=c.momentum, **shared),
        "rmsprop": lambda: optimizers.RMSprop(
            rho=c.rho, momentum=c.momentum, epsilon=c.epsilon, decay=c.decay, **shared
        ),
    }[c.name]()


def compile_trainee(
    model: Trainee,
    saved: keras.Model,
    config: TrainConfig,
    *,
    rate: Any,
    labels: np.ndarray,
    plan: Plan,
    frozen: bool = False,
) -> None:
    """Freeze what a phase freezes, and give the model an optimizer; call it in the strategy's scope.

    Args:
        model: From `build_trainee`.
        saved: From `build_saved`, for the stages of layer-wise decay.
        config: What is trained.
        rate: A schedule.
        labels: Class numbers of the training images.
        plan: On which devices.
        frozen: Whether only the classifier learns.
    """
    if frozen:
        freeze(model)
    elif config.finetune.frozen_epochs or not config.finetune.batch_norm:
        freeze(model)
        unfreeze(model, batch_norm=config.finetune.batch_norm)
    variables = model.trainable_variables
    factors = stage_factors(saved, config.finetune.layer_decay, variables)
    model.compile(
        make_optimizer(config, rate, factors),
        loss=make_loss(config, labels, saved.output_shape[-1]),
        jit_compile=jit_for(model, plan),
    )
    # Keras would build it inside of the compiled step, which fails on several replicas.
    model.optimizer.build(variables)


def jit_for(model: keras.Model, plan: Plan) -> bool | str:
    """Whether XLA compiles the steps.

    Args:
        model: What trains.
        plan: On which devices.

    Returns:
        Keras' own choice, except that grouped convolutions train on a CPU through XLA only.
    """
    grouped = any(getattr(layer, "groups", 1) > 1 for layer in model.layers if hasattr(layer, "kernel_size"))
    return True if grouped and plan.replicas == 1 and plan.devices[0].startswith("CPU") else "auto"


def make_loss(config: TrainConfig, labels: np.ndarray, classes: int) -> keras.losses.Loss:
    """Make the loss that trains.

    Args:
        config: Its settings.
        labels: Class numbers of the training images, for balanced class weights.
        classes: Number of classes.

    Returns:
        The loss, on logits.
    """
    c = config.loss
    weights = None
    if c.class_weights == "balanced":  # N / (C * N_c), scikit-learn's "balanced"
        counts = np.bincount(labels, minlength=classes)
        weights = [float(w) for w in len(labels) / (classes * np.maximum(counts, 1))]
    if c.name == "binary_cross_entropy":
        return BinaryCrossEntropy(c.label_smoothing, c.target_threshold, weights)
    return CrossEntropy(c.label_smoothing, weights)


def stage_factors(saved: keras.Model, decay: float, variables: list[keras.Variable]) -> dict[str, float]:
    """Factors on the learning rate that fall from each stage to the one below; the classifier has 1.

    A stage is what makes feature maps of about one size: without padding, convolutions take a few pixels off.

    Args:
        saved: The network at a fixed image size, with the layer names of the one that trains.
        decay: From a stage to the one below it.
        variables: Those that train.

    Returns:
        Factors by path of a variable.
    """
    if decay == 1:
        return {}
    sides = _map_sides(saved)
    largest: list[int] = []  # maps of each stage, the stem first
    for side in sorted(set(sides.values()), reverse=True):
        if not largest or 3 * side <= 2 * largest[-1]:
            largest.append(side)
    above = {name: sum(limit >= side for limit in largest) for name, side in sides.items()}
    depths = {name: 1 + len(largest) - number for name, number in above.items()}
    return {v.path: decay ** depths.get(v.path.split("/")[0], 0) for v in variables}


def _map_sides(network: keras.Model) -> dict[str, int]:
    """Side of the feature maps that each layer with weights makes, or scales; dense layers have none.

    What follows a global pooling until it meets other maps, as in squeeze-and-excitation, scales those that
    were pooled.
    """
    sides: dict[str, int] = {}
    pooled: dict[int, int] = {}  # by identity of a tensor: side of the maps it was pooled from
    for layer in network.layers:  # each stands behind those that feed it
        inputs = keras.tree.flatten(layer.input)
        if isinstance(layer, keras.layers.GlobalAveragePooling2D):
            pooled[id(layer.output)] = inputs[0].shape[1]
        elif inputs and all(id(x) in pooled for x in inputs):
            pooled[id(layer.output)] = pooled[id(inputs[0])]
        if layer.weights and not isinstance(layer, keras.layers.Dense):
            sides[layer.name] = pooled.get(id(layer.output), layer.output.shape[1])
    return sides

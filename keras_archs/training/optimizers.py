"""The optimizers of the published recipes, with their arithmetic: SGD, AdamW, LAMB, LARS, RMSprop.

They differ from those of Keras in three things. Gradients are summed over the replicas before they are
clipped; Keras clips each replica's, so that `global_clipnorm=1` on 8 devices acts like 8 on one. Weight decay
follows a named convention and leaves out biases and the scales of normalization. The trust ratios of LAMB and
LARS have the decay inside.
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import keras
from keras import ops

from keras_archs.choices import check_choice, nearest

DECAYS = ("coupled", "decoupled")
# Added to a denominator of LARS that is about as large as a norm of weights.
LARS_EPSILON = 1e-8


class _Optimizer(keras.optimizers.Optimizer):
    """What all share: sums before clipping, who decays, and the factor on each variable's rate."""

    def __init__(
        self,
        learning_rate: Any,
        slots: Mapping[str, str],
        weight_decay: float,
        decay_norms_and_biases: bool,
        rate_factors: Mapping[str, float] | None,
        **kwargs: Any,
    ) -> None:
        _check_number("weight_decay", weight_decay)
        for path, factor in (rate_factors or {}).items():
            _check_number(f"rate_factors[{path!r}]", factor)
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.decay_norms_and_biases = decay_norms_and_biases
        self.rate_factors = {path: float(factor) for path, factor in (rate_factors or {}).items()}
        self._initializers = slots

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Makes the running means of the gradients, and finds the factor of each variable.

        Raises:
            ValueError: If `rate_factors` names something else than the variables.
        """
        if self.built:
            return
        paths = [getattr(variable, "path", variable.name) for variable in variables]
        for path in self.rate_factors:
            if path not in paths:
                raise ValueError(
                    f"rate_factors names {path!r}, which is not trained.{nearest(path, paths)} "
                    f"A variable that is: {paths[0]!r}"
                )
        self._factors = [self.rate_factors.get(path, 1.0) for path in paths]
        super().build(variables)
        names, initializers = list(self._initializers), list(self._initializers.values())
        slots = self.add_optimizer_variables(variables, names, initializers)
        self._slots = dict(zip(names, slots, strict=True))
        # The schedule's `iterations` may be set ahead when training goes on with a new optimizer; this counts
        # what the running means have seen.
        self._applied = self.add_variable((), dtype="int", aggregation="only_first_replica", name="applied")

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Updates the variables.

        Args:
            grads: Gradients of this replica's share of the loss.
            trainable_variables: Their variables; None for those that the optimizer was built with.
        """
        super().apply(_sum_over_replicas(grads), trainable_variables)
        self._applied.assign_add(1)

    @property
    def updates(self) -> Any:
        """Updates of the variables that this optimizer has made."""
        return self._applied // (self.gradient_accumulation_steps or 1)

    def _all_reduce_sum_gradients(self, grads_and_vars: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        """Nothing: this is where Keras sums, after it has clipped."""
        return grads_and_vars

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Nothing: Keras knows one convention; `update_step` knows which is wanted."""

    def _decays(self, variable: Any) -> bool:
        """Whether weight decay applies; `exclude_from_weight_decay` can leave out more variables."""
        wanted = self.weight_decay > 0 and (self.decay_norms_and_biases or len(variable.shape) > 1)
        return wanted and self._use_weight_decay(variable)

    def _decayed(self, gradient: Any, variable: Any) -> tuple[Any, Any]:
        """The gradient with coupled decay, and what decoupled decay adds to the step at rate 1."""
        decay = self.weight_decay * variable if self._decays(variable) else 0.0
        return (gradient + decay, 0.0) if self.decay == "coupled" else (gradient, decay)

    def _rate(self, variable: Any, learning_rate: Any) -> Any:
        """The learning rate of one variable."""
        factor = self._factors[self._get_variable_index(variable)]
        return ops.cast(learning_rate, variable.dtype) * factor

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            **super().get_config(),
            "decay_norms_and_biases": self.decay_norms_and_biases,
            "rate_factors": dict(self.rate_factors),
        }


@keras.saving.register_keras_serializable("keras_archs")
class SGD(_Optimizer):
    """v = momentum * v + g, w = w - rate * v: stochastic gradient descent with momentum, as PyTorch has it.

    The rate is outside the velocity v. In Keras and in Caffe, which He et al. (2015) used, it is inside: the
    same while the rate stays, but after a cut to a tenth their first steps are still ten times as long.

    Coupled decay, of PyTorch and of He et al., adds weight_decay * w to the gradient, so that momentum
    multiplies it: in the long run a step shrinks w by rate * weight_decay / (1 - momentum). Decoupled decay,
    of Keras, shrinks it by rate * weight_decay. Loshchilov and Hutter (2017), arXiv:1711.05101, free it of
    the peak rate, too: their weight_decay divided by the peak rate is the decoupled one.

    Args:
        learning_rate: A float or a schedule.
        momentum: Share of the velocity that a step keeps.
        nesterov: Step along g + momentum * v.
        weight_decay: Strength of the decay.
        decay: Convention of the decay: "coupled" or "decoupled".
        decay_norms_and_biases: Whether variables with less than two dimensions decay, too.
        rate_factors: Factor on the rate of a variable, decoupled decay included, by its `path`; else 1.
        kwargs: Those of every Keras optimizer: `clipnorm`, `clipvalue`, `global_clipnorm`, `name`.

    Raises:
        ValueError: If a value is not accepted.
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        decay: str = "coupled",
        decay_norms_and_biases: bool = False,
        rate_factors: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice("decay", decay, DECAYS)
        _check_momentum(momentum, nesterov)
        slots = {"momentum": "zeros"} if momentum else {}
        super().__init__(learning_rate, slots, weight_decay, decay_norms_and_biases, rate_factors, **kwargs)
        self.momentum, self.nesterov, self.decay = momentum, nesterov, decay

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        gradient, shrink = self._decayed(ops.cast(gradient, variable.dtype), variable)
        step = _with_momentum(self, gradient, variable, self.nesterov)
        self.assign_sub(variable, self._rate(variable, learning_rate) * (step + shrink))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        own = {"momentum": self.momentum, "nesterov": self.nesterov, "decay": self.decay}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("keras_archs")
class AdamW(_Optimizer):
    """w = w - rate * (m / (sqrt(v) + epsilon) + weight_decay * w), as PyTorch has it.

    Kingma and Ba (2014), arXiv:1412.6980, with the decoupled decay of Loshchilov and Hutter (2017),
    arXiv:1711.05101. m and v, running means of g and g^2, are corrected for their start at zero before
    epsilon is added; Keras adds it to the root of an uncorrected v.

    Args:
        learning_rate: A float or a schedule.
        beta_1: Share of m that a step keeps.
        beta_2: Share of v that a step keeps.
        epsilon: Added to sqrt(v).
        weight_decay: Strength of the decay.
        decay: Convention of the decay: "decoupled", or "coupled" (added to the gradient: plain Adam).
        decay_norms_and_biases: Whether variables with less than two dimensions decay, too.
        rate_factors: Factor on the rate of a variable, decoupled decay included, by its `path`; else 1.
        kwargs: Those of every Keras optimizer: `clipnorm`, `clipvalue`, `global_clipnorm`, `name`.

    Raises:
        ValueError: If a value is not accepted.
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        decay: str = "decoupled",
        decay_norms_and_biases: bool = False,
        rate_factors: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice("decay", decay, DECAYS)
        _check_moments(beta_1, beta_2, epsilon)
        slots = {"momentum": "zeros", "velocity": "zeros"}
        super().__init__(learning_rate, slots, weight_decay, decay_norms_and_biases, rate_factors, **kwargs)
        self.beta_1, self.beta_2, self.epsilon, self.decay = beta_1, beta_2, epsilon, decay

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        gradient, shrink = self._decayed(ops.cast(gradient, variable.dtype), variable)
        step = _adam_step(self, gradient, variable)
        self.assign_sub(variable, self._rate(variable, learning_rate) * (step + shrink))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon, "decay": self.decay}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("keras_archs")
class LAMB(_Optimizer):
    """w = w - rate * |w| / |u| * u with Adam's u = m / (sqrt(v) + epsilon) + weight_decay * w.

    You et al. (2019), algorithm 2, arXiv:1904.00962. The trust ratio |w| / |u| is 1 where a norm is zero and,
    as in timm, for variables without decay: with `weight_decay=0` this is Adam, unless `always_adapt`. ResNet
    strikes back, arXiv:2110.00476, trains with timm's LAMB, which clips: `global_clipnorm=1.0`.

    Args:
        learning_rate: A float or a schedule.
        beta_1: Share of m that a step keeps.
        beta_2: Share of v that a step keeps.
        epsilon: Added to sqrt(v).
        weight_decay: Strength of the decay.
        decay_norms_and_biases: Whether variables with less than two dimensions decay, too.
        always_adapt: Use the trust ratio for variables without decay, too, as the paper does.
        rate_factors: Factor on the rate of a variable, by its `path`; else 1.
        kwargs: Those of every Keras optimizer: `clipnorm`, `clipvalue`, `global_clipnorm`, `name`.

    Raises:
        ValueError: If a value is not accepted.
    """

    def __init__(
        self,
        learning_rate: Any = 5e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float = 0.01,
        decay_norms_and_biases: bool = False,
        always_adapt: bool = False,
        rate_factors: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        _check_moments(beta_1, beta_2, epsilon)
        slots = {"momentum": "zeros", "velocity": "zeros"}
        super().__init__(learning_rate, slots, weight_decay, decay_norms_and_biases, rate_factors, **kwargs)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.always_adapt = always_adapt

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        step = _adam_step(self, ops.cast(gradient, variable.dtype), variable)
        decays = self._decays(variable)
        if decays:
            step += self.weight_decay * variable
        if decays or self.always_adapt:
            w, u = _norm(variable), _norm(step)
            step *= _ratio_or_one(w, u, w / u)
        self.assign_sub(variable, self._rate(variable, learning_rate) * step)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return {**super().get_config(), **own, "always_adapt": self.always_adapt}


@keras.saving.register_keras_serializable("keras_archs")
class LARS(_Optimizer):
    """v = momentum * v + ratio * (g + weight_decay * w), w = w - rate * v, with a ratio for each variable.

    You et al. (2017), algorithm 1, arXiv:1708.03888: the trust ratio is trust_coefficient * |w| / (|g| +
    weight_decay * |w|). The rate is outside the velocity v, as in timm; the paper has it inside. The ratio
    is 1 where a norm is zero and, as in timm, for variables without decay, unless `always_adapt`.

    Args:
        learning_rate: A float or a schedule.
        momentum: Share of the velocity that a step keeps.
        nesterov: Step along the gradient + momentum * v.
        weight_decay: Strength of the decay.
        trust_coefficient: Length of a step against that of the weights, at rate 1.
        decay_norms_and_biases: Whether variables with less than two dimensions decay, too.
        always_adapt: Use the trust ratio for variables without decay, too.
        rate_factors: Factor on the rate of a variable, by its `path`; else 1.
        kwargs: Those of every Keras optimizer: `clipnorm`, `clipvalue`, `global_clipnorm`, `name`.

    Raises:
        ValueError: If a value is not accepted.
    """

    def __init__(
        self,
        learning_rate: Any = 1.0,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float = 1e-4,
        trust_coefficient: float = 0.001,
        decay_norms_and_biases: bool = False,
        always_adapt: bool = False,
        rate_factors: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        _check_momentum(momentum, nesterov)
        _check_number("trust_coefficient", trust_coefficient)
        slots = {"momentum": "zeros"} if momentum else {}
        super().__init__(learning_rate, slots, weight_decay, decay_norms_and_biases, rate_factors, **kwargs)
        self.momentum, self.nesterov = momentum, nesterov
        self.trust_coefficient, self.always_adapt = trust_coefficient, always_adapt

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        gradient = ops.cast(gradient, variable.dtype)
        weight_decay = self.weight_decay if self._decays(variable) else 0.0
        if weight_decay or self.always_adapt:
            w, g = _norm(variable), _norm(gradient)
            ratio = self.trust_coefficient * w / (g + weight_decay * w + LARS_EPSILON)
            gradient = (gradient + weight_decay * variable) * _ratio_or_one(w, g, ratio)
        step = _with_momentum(self, gradient, variable, self.nesterov)
        self.assign_sub(variable, self._rate(variable, learning_rate) * step)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        own = {"momentum": self.momentum, "nesterov": self.nesterov, "always_adapt": self.always_adapt}
        return {**super().get_config(), **own, "trust_coefficient": self.trust_coefficient}


@keras.saving.register_keras_serializable("keras_archs")
class RMSprop(_Optimizer):
    """u = momentum * u + rate * g / sqrt(v + epsilon), w = w - u, as TensorFlow 1 has it.

    With it Szegedy et al. (2015), section 8, arXiv:1512.00567, trained Inception: `rho=0.9, epsilon=1.0` and
    gradients clipped at 2. v, the running mean of g^2, starts at 1 and epsilon is inside the root; in Keras v
    starts at 0, in PyTorch epsilon is outside, too. The rate is inside u.

    Args:
        learning_rate: A float or a schedule.
        rho: Share of v that a step keeps.
        momentum: Share of u that a step keeps.
        epsilon: Added to v.
        weight_decay: Strength of the decay.
        decay: Convention of the decay: "coupled" or "decoupled".
        decay_norms_and_biases: Whether variables with less than two dimensions decay, too.
        rate_factors: Factor on the rate of a variable, decoupled decay included, by its `path`; else 1.
        kwargs: Those of every Keras optimizer: `clipnorm`, `clipvalue`, `global_clipnorm`, `name`.

    Raises:
        ValueError: If a value is not accepted.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-10,
        weight_decay: float = 0.0,
        decay: str = "coupled",
        decay_norms_and_biases: bool = False,
        rate_factors: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice("decay", decay, DECAYS)
        _check_number("rho", rho, below=1)
        _check_number("momentum", momentum, below=1)
        _check_number("epsilon", epsilon)
        slots = {"velocity": "ones"} | ({"momentum": "zeros"} if momentum else {})
        super().__init__(learning_rate, slots, weight_decay, decay_norms_and_biases, rate_factors, **kwargs)
        self.rho, self.momentum, self.epsilon, self.decay = rho, momentum, epsilon, decay

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        rate = self._rate(variable, learning_rate)
        gradient, shrink = self._decayed(ops.cast(gradient, variable.dtype), variable)
        v = _running_mean(self, "velocity", self.rho, ops.square(gradient), variable)
        step = _with_momentum(self, rate * gradient / ops.sqrt(v + self.epsilon), variable, nesterov=False)
        self.assign_sub(variable, step + rate * shrink)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        own = {"rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon, "decay": self.decay}
        return {**super().get_config(), **own}


def _sum_over_replicas(grads: Sequence[Any]) -> list[Any]:
    """Sum each gradient over the replicas of tf.distribute; the loss is divided by their number already."""
    grads = list(grads)
    if keras.backend.backend() != "tensorflow":
        return grads
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    present = [g for g in grads if g is not None]
    if replica is None or replica.num_replicas_in_sync == 1 or not present:
        return grads
    sums = iter(replica.all_reduce(tf.distribute.ReduceOp.SUM, present))
    return [None if g is None else next(sums) for g in grads]


def _with_momentum(optimizer: SGD | LARS | RMSprop, gradient: Any, variable: Any, nesterov: bool) -> Any:
    """The direction of a step: the new velocity, or what Nesterov's rule makes of it."""
    if not optimizer.momentum:
        return gradient
    velocity = optimizer._slots["momentum"][optimizer._get_variable_index(variable)]
    new = optimizer.momentum * velocity + gradient
    optimizer.assign(velocity, new)
    return gradient + optimizer.momentum * new if nesterov else new


def _adam_step(optimizer: AdamW | LAMB, gradient: Any, variable: Any) -> Any:
    """m / (sqrt(v) + epsilon) with the corrected running means."""
    step = optimizer.updates + 1
    m = _running_mean(optimizer, "momentum", optimizer.beta_1, gradient, variable)
    v = _running_mean(optimizer, "velocity", optimizer.beta_2, ops.square(gradient), variable)
    m /= _correction(optimizer.beta_1, step, variable.dtype)
    v /= _correction(optimizer.beta_2, step, variable.dtype)
    return m / (ops.sqrt(v) + optimizer.epsilon)


def _running_mean(optimizer: _Optimizer, slot: str, share: float, value: Any, variable: Any) -> Any:
    """The new mean, of which a step keeps a share."""
    mean = optimizer._slots[slot][optimizer._get_variable_index(variable)]
    new = mean + (value - mean) * (1 - share)
    optimizer.assign(mean, new)
    return new


def _correction(beta: float, step: Any, dtype: str) -> Any:
    """1 - beta^step; expm1 because in float32 1 - 0.999 is off by 1e-5 of its value."""
    return -ops.expm1(ops.cast(step, dtype) * math.log(beta)) if beta else 1.0


def _norm(x: Any) -> Any:
    """Euclidean length of all numbers in a tensor."""
    return ops.sqrt(ops.sum(ops.square(x)))


def _ratio_or_one(a: Any, b: Any, ratio: Any) -> Any:
    """The trust ratio, or 1 where one of its norms is zero: a layer that starts at zero must get away."""
    return ops.where(ops.logical_and(a > 0, b > 0), ratio, ops.ones_like(ratio))


def _check_number(argument: str, value: float, below: float = math.inf) -> None:
    """Refuse what is not a number from 0 to below a limit; NaN is refused, too."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < below:
        limit = "" if below == math.inf else f" to below {below:g}"
        raise ValueError(f"{argument}={value!r} is not accepted: a number from 0{limit}")


def _check_momentum(momentum: float, nesterov: bool) -> None:
    """Refuse what makes no velocity."""
    _check_number("momentum", momentum, below=1)
    if nesterov and not momentum:
        raise ValueError("nesterov=True needs a momentum above 0")


def _check_moments(beta_1: float, beta_2: float, epsilon: float) -> None:
    """Refuse what makes no running means."""
    _check_number("beta_1", beta_1, below=1)
    _check_number("beta_2", beta_2, below=1)
    _check_number("epsilon", epsilon)

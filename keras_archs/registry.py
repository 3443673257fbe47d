"""Every model by name: the family tables, looked up."""

import fnmatch
from typing import Any

import keras

# Importing the families registers their constructors.
from keras_archs import inception, resnet, vgg, xception  # noqa: F401
from keras_archs.assemble import CONSTRUCTORS, SPECS, Spec
from keras_archs.choices import check_choice


def list_models(pattern: str = "*") -> list[str]:
    """Names of all models that match a pattern, sorted.

    Args:
        pattern: With the wildcards of a shell: `resnet*`, `*v2`.

    Returns:
        Names for `create_model`; empty if none matches.
    """
    return sorted(fnmatch.filter(CONSTRUCTORS, pattern))


def get_spec(name: str) -> Spec:
    """The row of a model.

    Args:
        name: One of `list_models()`.

    Returns:
        The family's frozen record.

    Raises:
        ValueError: If there is no such model.
    """
    check_choice("name", name, list_models())
    return SPECS[name]


def create_model(name: str, **arguments: Any) -> keras.Model:
    """Builds a model by its name, for programs that read it from a command line or a file.

    Args:
        name: One of `list_models()`.
        arguments: Those of the constructor, e.g. `keras_archs.ResNet50`.

    Returns:
        What the constructor returns.

    Raises:
        ValueError: If there is no such model, or from the constructor.
        TypeError: If the constructor has no such argument.
    """
    check_choice("name", name, list_models())
    return CONSTRUCTORS[name](**arguments)

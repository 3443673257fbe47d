"""Every model by name: the family tables, looked up."""

import fnmatch
from dataclasses import replace
from typing import Any

import keras

# Importing the families registers their constructors.
from keras_archs import (  # noqa: F401
    googlenet,
    inception,
    inception_resnet,
    resnet,
    resnet_preact,
    vgg,
    xception,
    xception_aligned,
)
from keras_archs.assemble import CONSTRUCTORS, SPECS, Spec
from keras_archs.choices import check_choice
from keras_archs.weights import entries

# Other names of our models, and the lineage that they mean: never a second network.
ALIASES = {"legacy_xception": ("xception", "torch"), "inception_v1": ("googlenet", None)}


def list_models(pattern: str = "*", weights: bool = False) -> list[str]:
    """Names of all models that match a pattern, sorted.

    Args:
        pattern: With the wildcards of a shell: `resnet*`, `*v2`.
        weights: Whether to list published weights (`resnet50.a1_in1k`) instead of the models; the pattern
            then matches either the model or the whole name.

    Returns:
        Names for `create_model`; empty if none matches.
    """
    if not weights:
        return sorted(fnmatch.filter(CONSTRUCTORS, pattern))
    return sorted(
        entry.name
        for entry in entries()
        if fnmatch.fnmatchcase(entry.name, pattern) or fnmatch.fnmatchcase(entry.model, pattern)
    )


def get_spec(name: str) -> Spec:
    """The row of a model.

    Args:
        name: One of `list_models()`, or "legacy_xception" or "inception_v1".

    Returns:
        The family's frozen record. Its `convention` is the lineage that the name implies without weights.

    Raises:
        ValueError: If there is no such model.
    """
    key, convention = ALIASES.get(name, (name, None))
    check_choice("name", key, list_models())
    spec = SPECS[key]
    return replace(spec, convention=spec.conventions[convention]) if convention else spec


def create_model(name: str, **arguments: Any) -> keras.Model:
    """Builds a model by its name, for programs that read it from a command line or a file.

    Args:
        name: One of `list_models()`, or with a tag one of `list_models(weights=True)`: "resnet50.a1_in1k".
            Also "legacy_xception", timm's numbers of our "xception", and "inception_v1", our "googlenet".
        arguments: Those of the constructor, e.g. `keras_archs.ResNet50`.

    Returns:
        What the constructor returns.

    Raises:
        ValueError: If there is no such model, or from the constructor.
        TypeError: If the constructor has no such argument.
    """
    model, _, tag = str(name).partition(".")
    key, convention = ALIASES.get(model, (model, None))
    check_choice("name", key if tag else name, [*list_models(), *ALIASES])
    if tag and "weights" in arguments:
        raise ValueError(
            f"weights={arguments['weights']!r} and name={name!r} both say which weights: give one."
        )
    if tag:
        arguments = {**arguments, "weights": tag}
    elif convention:
        arguments = {"weights": None, "convention": convention, **arguments}
    return CONSTRUCTORS[key](**arguments)

"""What a user chose for a conversion, checked together before anything is converted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from converters.ai_edge import ENGINES, OURS, Engine, check_engine
from converters.calibration import METHODS, Method
from converters.plan import CORRECTIONS
from converters.recipes import Recipe, Tolerance, get_recipe
from converters.rewrite import choose_rewrites
from converters.targets import Target, get_target
from keras_archs.choices import check_choice

DEFAULT_RECIPE = "int8"


def usual_recipe(target: str | None) -> str:
    """The recipe of who names none: the best for the target."""
    return get_target(target).recipes[0] if target is not None else DEFAULT_RECIPE


def settle(
    recipe: str | None = None,
    target: str | None = None,
    rewrite: str | Iterable[str] = "default",
    ranges: Method = "minmax",
    corrections: str | Iterable[str] = (),
    tolerance: Tolerance | None = None,
    engine: Engine = OURS,
    takes_pixels: bool = False,
) -> dict[str, Any]:
    """Check what was chosen, each for itself and all against each other.

    Args:
        recipe: As `converters.convert` takes it, like all but the last.
        target: Likewise.
        rewrite: Likewise.
        ranges: Likewise.
        corrections: Likewise.
        tolerance: Likewise.
        engine: Likewise.
        takes_pixels: Whether the artifact is to normalise images 0..255 itself.

    Returns:
        Fields of a `Plan`.

    Raises:
        ValueError: Something does not exist, does nothing, or does not go with the rest.
        TypeError: Something is of another type.
        ImportError: The engine is not installed.
    """
    row = get_recipe(usual_recipe(target) if recipe is None else recipe)
    client = get_target(target) if target is not None else None
    rewrites = _rewrites(rewrite, row, client)
    check_choice("ranges", ranges, dict.fromkeys(METHODS))
    if not isinstance(corrections, Iterable):
        raise TypeError(f"corrections={corrections!r} is not accepted: some of {', '.join(CORRECTIONS)} are.")
    chosen = (corrections,) if isinstance(corrections, str) else tuple(corrections)
    for correction in chosen:
        check_choice("corrections", correction, dict.fromkeys(CORRECTIONS))
    _check_for_integers(row, ranges, chosen, tolerance)
    check_choice("engine", engine, dict.fromkeys(ENGINES))
    check_engine(engine, row)
    if client is not None:
        _check_target(client, row, takes_pixels)
        if tolerance is not None and "float32" not in client.activations:
            raise ValueError(
                f"tolerance={tolerance!r} keeps layers in float, and target={client.name!r} computes in "
                "integers only."
            )
    return {
        "recipe": row.name,
        "rewrites": rewrites,
        "ranges": ranges,
        "corrections": chosen,
        "tolerance": tolerance,
        "engine": engine,
        "per_channel_dense": client is None or client.per_channel_dense,
        **_end_types(row, client),
    }


def _rewrites(rewrite: str | Iterable[str], recipe: Recipe, target: Target | None) -> tuple[str, ...]:
    chosen = choose_rewrites(rewrite, on_cpu=target is None or target.delegate == "xnnpack")
    if recipe.format != "tflite":
        if rewrite not in ("default", "none"):
            raise ValueError(
                f"rewrite={rewrite!r} is for TFLite files; recipe {recipe.name!r} makes none: leave it out."
            )
        return ()
    return tuple(chosen)


def _check_for_integers(
    recipe: Recipe, ranges: str, corrections: tuple[str, ...], tolerance: Tolerance | None
) -> None:
    """Refuse what would do nothing."""
    if tolerance is not None:
        _check_tolerance(tolerance)
    if tolerance is not None and recipe.activations != "int8":
        raise ValueError(
            f"tolerance={tolerance!r} keeps layers of an int8 model in float; recipe "
            f"{recipe.name!r} has none."
        )
    if recipe.activations == "int16" and "bias_correction" in corrections:
        raise ValueError(
            f"corrections={corrections!r}: bias_correction is for int8; biases of int16x8 have 64 bits."
        )
    if recipe.needs_data:
        return
    for argument, value, does_nothing in (
        ("ranges", ranges, ranges == "minmax"),
        ("corrections", corrections, not corrections),
    ):
        if not does_nothing:
            raise ValueError(
                f"{argument}={value!r} is for recipes with integer activations (int8, int16x8); recipe "
                f"{recipe.name!r} has none: leave it out."
            )


def _check_tolerance(tolerance: Tolerance) -> None:
    if not isinstance(tolerance, Tolerance):
        raise TypeError(f"tolerance={tolerance!r} is not accepted: a converters.Tolerance is.")
    limits = [limit for limit in vars(tolerance).values() if limit is not None]
    if not limits or not all(map(math.isfinite, limits)):
        raise ValueError(f"tolerance={tolerance!r} needs a limit, and finite numbers for limits.")
    if tolerance.min_agreement is not None and not 0 <= tolerance.min_agreement <= 1:
        raise ValueError(f"tolerance: min_agreement={tolerance.min_agreement!r} must be a share, 0 to 1.")


def _check_target(target: Target, recipe: Recipe, takes_pixels: bool) -> None:
    if recipe.name not in target.recipes:
        raise ValueError(
            f"recipe={recipe.name!r} makes no sense for target={target.name!r}; accepted: "
            f"{', '.join(target.recipes)}."
        )
    if target.metadata and recipe.activations == "int8" and not takes_pixels:
        raise ValueError(
            f"target={target.name!r} feeds pixels 0..255 to an integer model: give include_preprocessing, so "
            "that the model normalises them, and images 0..255 as representative_data."
        )


def _end_types(recipe: Recipe, target: Target | None) -> dict[str, str]:
    """Of input and output: the target's for int8, which is the one that has a choice."""
    if recipe.activations != "int8":
        return dict.fromkeys(("input_type", "output_type"), recipe.activations)
    if target is None:
        return dict.fromkeys(("input_type", "output_type"), "int8")
    return {"input_type": target.input_type, "output_type": target.output_type}

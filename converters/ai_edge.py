"""Storing the weights of a float model by ai-edge-quantizer, in place of weights.py. It is optional."""

from __future__ import annotations

import importlib.util
from typing import Literal

import numpy as np

from converters.recipes import Recipe

Engine = Literal["keras_archs", "ai_edge_quantizer"]
OURS: Engine = "keras_archs"
THEIRS: Engine = "ai_edge_quantizer"
ENGINES = (OURS, THEIRS)

# The recipes that it makes, and what it calls them.
_RECIPES = {
    "dynamic_int8": "dynamic_wi8_afp32",
    "weights_int8": "weight_only_wi8_afp32",
    "weights_int4": "weight_only_wi4_afp32",
}


def check_engine(engine: Engine, recipe: Recipe) -> None:
    """Refuse an engine that is not there, or does not make the recipe.

    Args:
        engine: One of ENGINES.
        recipe: What it is to make.

    Raises:
        ValueError: It has no such recipe.
        ImportError: Its package is not installed.
    """
    if engine == OURS:
        return
    if recipe.name not in _RECIPES:
        raise ValueError(
            f"engine={engine!r} stores weights, for the recipes {', '.join(_RECIPES)}; recipe "
            f"{recipe.name!r} is made without it: leave it out."
        )
    if importlib.util.find_spec(THEIRS) is None:
        raise ImportError(f"engine={engine!r} is not installed: pip install ai-edge-quantizer")


def packages(engine: Engine) -> tuple[str, ...]:
    """The packages that an engine adds to those of every conversion, as they are called in an index."""
    return () if engine == OURS else ("ai-edge-quantizer",)


def store_by_ai_edge(content: bytes, recipe: Recipe) -> bytes:
    """Let ai-edge-quantizer store the weights.

    Args:
        content: A float TFLite model.
        recipe: One of those that it makes. OCTAV (Sakr et al. 2022, "Optimal clipping and magnitude-aware
            differentiation for improved quantization-aware training", section 3) chooses the scales, where
            ours are the largest weight over the largest integer.

    Returns:
        The model with integer weights, a scale an output channel.
    """
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer import recipe as recipes
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    engine = quantizer.Quantizer(bytearray(content))
    make = getattr(recipes, _RECIPES[recipe.name])
    engine.load_quantization_recipe(make(algorithm_key=AlgorithmName.OCTAV))
    result = engine.quantize(enable_progress_bar=False, enable_progress_report=False)
    return _in_one_piece(bytes(result.quantized_model))


def _in_one_piece(content: bytes) -> bytes:
    """The same model with its constants in the flatbuffer: it writes them behind, for models beyond 2 GB."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for buffer in model.buffers:
        if buffer.offset > 1:
            data = content[buffer.offset : buffer.offset + buffer.size]
            buffer.data = np.frombuffer(data, np.uint8)
            buffer.offset = buffer.size = 0
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())

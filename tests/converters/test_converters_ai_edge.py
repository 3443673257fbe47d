"""Weights by ai-edge-quantizer, beside ours."""

import pytest

import converters
from converters import ai_edge
from converters.artifact import TFLITE
from converters.flatbuffer import describe
from converters.graph import Graph


@pytest.mark.parametrize("recipe", ["dynamic_int8", "weights_int8", "weights_int4"])
def test_it_makes_what_ours_makes(trained, data, converted, recipe):
    theirs = converters.convert(trained, recipe, engine="ai_edge_quantizer")
    ours = converted(recipe)
    for artifact in (ours, theirs):
        signature = Graph(artifact.files[TFLITE]).signature()
        assert [list(end) for end in signature] == [["images"], ["probabilities"]]
        report = converters.verify(artifact, trained, data)
        assert report.sqnr_db > 8
    assert theirs.files[TFLITE] != ours.files[TFLITE]
    assert theirs.record["plan"]["engine"] == "ai_edge_quantizer"
    assert theirs.record["versions"]["ai-edge-quantizer"]
    assert "ai-edge-quantizer" not in ours.record["versions"]
    assert describe(theirs.files[TFLITE])["tensors_by_dtype"]["int4" if "4" in recipe else "int8"]
    assert len(theirs.files[TFLITE]) < 1.2 * len(ours.files[TFLITE])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"engine": "ai_edge"},
            r"engine='ai_edge' is not accepted. Accepted: 'keras_archs', 'ai_edge",
        ),
        ({"recipe": "int8"}, r"engine='ai_edge_quantizer' stores weights, for .*weights_int4; recipe 'int8'"),
        ({"recipe": "saved_model"}, r"recipe 'saved_model' is made without it"),
    ],
)
def test_what_it_is_not_for(trained, given, message):
    arguments = {"recipe": "weights_int4", "engine": "ai_edge_quantizer"} | given
    with pytest.raises(ValueError, match=message):
        converters.convert(trained, **arguments)


def test_a_package_that_is_not_installed(trained, monkeypatch):
    monkeypatch.setattr(ai_edge.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="engine='ai_edge_quantizer' is not installed: pip install"):
        converters.convert(trained, "weights_int8", engine="ai_edge_quantizer")

"""Targets, what a lint finds, and what can be said of any file."""

import dataclasses
import json
from functools import partial

import flatbuffers
import pytest
from test_converters_delegates import (
    add,
    concat,
    conv,
    dense,
    depthwise,
    mean,
    new_graph,
    pool,
    softmax,
    unary,
)

from converters.delegates import list_delegates
from converters.graph import Graph, Tensor, schema_module
from converters.inspection import explain
from converters.metadata import (
    Metadata,
    image_input,
    make_labels,
    score_output,
    write_metadata,
)
from converters.targets import TARGETS, Finding, get_target, lint, list_targets


@pytest.fixture(autouse=True)
def clean_state():
    """No Keras model here."""


def network(dtype="INT8", border=None, channels=3, head="FULLY_CONNECTED", **quantization):
    """A convolution, a global pool and a dense layer; `border` is the type outside of it."""
    graph = new_graph((1, 8, 8, channels), border or dtype)
    if border:
        unary(graph, "QUANTIZE", dtype=dtype)
    conv(graph)
    mean(graph, head == "CONV_2D")
    dense(graph, 3, **quantization) if head == "FULLY_CONNECTED" else conv(graph, 3)
    if border:
        unary(graph, "DEQUANTIZE" if border == "FLOAT32" else "QUANTIZE", dtype=border)
    return graph


def described(dtype="uint8", mean=(127.5,), std=(127.5,)):
    labels = make_labels(("a", "b", "c"), 3)
    return Metadata("net", inputs=(image_input(dtype, mean, std),), outputs=(score_output(dtype, [labels]),))


def problems(graph, target, metadata=None, severity="error"):
    return [str(found) for found in lint(graph, target, metadata) if found.severity == severity]


# ---- The table.


@pytest.mark.parametrize("name", list_targets())
def test_targets_agree_with_themselves(name):
    target = get_target(name)
    assert target.input_type in target.inputs
    assert target.output_type in target.outputs
    assert target.delegate is None or target.delegate in list_delegates()
    assert set(target.recipes) <= {"int8", "float16", "float32", "dynamic_int8", "int16x8"}
    assert target.summary


def test_unknown_target_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"target='mobil' is not accepted\. Did you mean 'mobile'"):
        lint(new_graph(), "mobil")


# Each target with a network that it has nothing against.
GOOD = {
    "mobile": (network("INT8", "UINT8"), described()),
    "android_npu": (network("INT8"), None),
    "edgetpu": (network("INT8"), None),
    "micro": (network("INT8"), None),
    "gpu_delegate": (network("FLOAT32"), None),
    "coreml_delegate": (network("FLOAT32", head="CONV_2D"), None),
    "browser": (network("INT8", "FLOAT32"), None),
}


@pytest.mark.parametrize("name", list_targets())
def test_a_good_model_has_no_errors(name):
    graph, metadata = GOOD[name]
    found = lint(graph, name, metadata)
    cheap = [f for f in found if f.severity == "warning" and "from uint8 to int8" not in f.problem]
    assert not problems(graph, name, metadata)
    assert [f for f in cheap if "from int8 to uint8" not in f.problem] == []


# ---- What breaks a target.


def test_mobile_rejects_int8_and_says_what_to_do():
    assert problems(network("INT8"), "mobile", described()) == [
        "error: input 'in0': it is int8, and mobile feeds uint8 or float32; "
        "export with target='mobile', whose input is uint8",
        "error: output 'FULLY_CONNECTED_2_0': it is int8, and mobile reads uint8 or float32; "
        "export with target='mobile', whose output is uint8",
    ]


def test_mobile_wants_one_image_and_one_vector_of_scores():
    two = new_graph((1, 8, 8, 3), inputs=2)
    concat(two)
    found = problems(two, "mobile", described("float32"))
    assert any("it has 2 inputs and 1 outputs" in line for line in found)
    assert any("its shape is (1, 8, 8, 6), and mobile reads (1, classes)" in line for line in found)
    grey = problems(network("FLOAT32", channels=1), "mobile", described("float32"))
    assert grey == [
        "error: input 'in0': its shape is (1, 8, 8, 1), and mobile feeds (1, height, width, 3); "
        "build the model for images of this form"
    ]


def test_mobile_float_images_need_a_normalisation():
    floats = network("FLOAT32")
    assert any("how float images are normalised" in line for line in problems(floats, "mobile"))
    assert problems(floats, "mobile", described("float32")) == []
    apart = described("float32", (103.9, 116.8, 123.7), (1.0, 1.0, 1.0))
    assert any("channels are normalised differently" in line for line in problems(floats, "mobile", apart))
    bytes_in = network("INT8", "UINT8")
    assert problems(bytes_in, "mobile", None) == []
    assert any("no labels" in line for line in problems(bytes_in, "mobile", None, "warning"))


@pytest.mark.parametrize("name", list_targets())
def test_batches_of_two_and_open_batches(name):
    graph = new_graph((2, 8, 8, 3), TARGETS[name].inputs[0].upper())
    unary(graph, "ABS")
    assert any("its batch is 2" in line for line in problems(graph, name))


def test_open_batch():
    graph = network("FLOAT32")
    content = Graph(graph.to_bytes())
    content.inputs[0]._raw.shapeSignature = [-1, 8, 8, 3]
    assert any("its batch is open" in line for line in problems(content, "gpu_delegate"))


@pytest.mark.parametrize("name", list_targets())
def test_custom_operations(name):
    graph, metadata = GOOD[name]
    graph = Graph(graph.to_bytes())
    graph.ops[-2].kind = "CUSTOM FlexErf"
    lines = problems(graph, name, metadata)
    assert any("CUSTOM FlexErf" in line and "select TF ops" in line for line in lines)


def test_edgetpu_takes_no_floats():
    graph = network("FLOAT32")
    found = lint(graph, "edgetpu")
    assert [f.where for f in found if "computes in float32" in f.problem] == [
        "CONV_2D CONV_2D_0_0 and 1 more"
    ]
    assert any("takes none of its operations" in f.problem for f in found)
    assert all(f.severity == "error" for f in found)


def test_edgetpu_tells_what_stays_on_the_cpu():
    graph = network("INT8")
    softmax(graph)
    unary(graph, "ELU")
    assert lint(graph, "edgetpu") == [
        Finding(
            "warning",
            "1 x ELU",
            "the edgetpu delegate refuses it: there is no kernel for it",
            "it runs on the CPU: use another layer if its time matters",
        )
    ]


def test_micro_wants_dense_weights_of_one_scale():
    assert problems(network("INT8", scales=1), "micro") == []
    (line,) = problems(network("INT8", scales=3), "micro")
    assert "a scale for each unit" in line
    assert "FULLY_CONNECTED" in line
    assert problems(network("INT8", scales=3), "edgetpu") == []


def test_micro_has_no_fallback():
    graph = network("INT8")
    graph.ops[1].kind = "REVERSE_V2"
    assert problems(graph, "micro") == [
        "error: 1 x REVERSE_V2: micro does not run it: there is no kernel for it; "
        "use another layer: with this one the model does not start"
    ]


def test_micro_arena_is_checked_when_a_limit_is_given():
    graph = network("INT8")
    needs = 8 * 8 * 3 + 8 * 8 * 4
    for limit, errors in ((needs, 0), (needs - 1, 1)):
        target = dataclasses.replace(get_target("micro"), arena_bytes=limit)
        assert len(problems(graph, target)) == errors
    assert "the arena needs 448 bytes" in problems(graph, target)[0]


def test_gpu_runs_integers_without_gain_and_says_so():
    graph = network("INT8", "FLOAT32")
    assert problems(graph, "gpu_delegate") == []
    lines = problems(graph, "gpu_delegate", severity="warning")
    assert any("it computes in int8, and gpu_delegate is made for float32" in line for line in lines)
    assert any("export with the recipe float16 or float32" in line for line in lines)


def test_float16_weights_count_as_float16():
    graph = new_graph((1, 8, 8, 3))
    conv(graph, weights="FLOAT16")
    found = lint(graph, dataclasses.replace(get_target("gpu_delegate"), weights=("float32",)))
    assert [f.problem for f in found] == ["it has weights in float16, and gpu_delegate is made for float32"]
    assert lint(graph, "gpu_delegate") == []


def test_coreml_tells_how_to_pool():
    graph = new_graph((1, 8, 8, 3))
    for change in (conv, conv, mean):
        change(graph)
    (found,) = lint(graph, "coreml_delegate")
    assert found.where == "1 x MEAN"
    assert "keepdims=True" in found.advice


def test_pieces_are_told_with_their_cause():
    graph = new_graph((1, 8, 8, 3), "INT8")
    for change in (conv, partial(pool, kind="AVERAGE_POOL_2D", window=3), conv):
        change(graph)
    found = lint(graph, dataclasses.replace(get_target("browser"), inputs=("int8",), outputs=("int8",)))
    assert [(f.severity, f.where) for f in found] == [
        ("warning", "1 x AVERAGE_POOL_2D"),
        ("warning", "model"),
    ]
    assert "in 2 pieces" in found[1].problem
    assert "depthwise convolution" in found[0].advice


def test_metadata_is_read_from_the_file():
    content = network("FLOAT32").to_bytes()
    assert any("does not say how float images are normalised" in line for line in problems(content, "mobile"))
    assert problems(write_metadata(content, described("float32")), "mobile") == []


def test_errors_come_first():
    found = lint(network("INT8"), "mobile")
    assert [f.severity for f in found] == sorted(f.severity for f in found)
    assert {f.severity for f in found} == {"error", "warning"}


# ---- What can be said of any file.


def test_explain_a_quantized_network():
    graph = network("INT8", "UINT8", scales=3)
    content = graph.to_bytes()
    found = explain(content)
    assert json.loads(json.dumps(found)) == found
    assert found["bytes"] == len(content)
    assert found["inputs"] == [
        {"name": "in0", "shape": [1, 8, 8, 3], "dtype": "uint8", "scale": 0.1, "zero_point": 0}
    ]
    assert found["ops"]["CONV_2D"] == {"int8": 1}
    assert found["ops"]["QUANTIZE"] == {"uint8 -> int8": 1, "int8 -> uint8": 1}
    conv_macs, dense_macs = 8 * 8 * 4 * 3 * 3 * 3, 3 * 4
    assert found["macs"] == {"CONV_2D": conv_macs, "FULLY_CONNECTED": dense_macs}
    assert found["total_macs"] == conv_macs + dense_macs
    assert found["parameters"] == {
        "int8": {"number": 4 * 27 + 3 * 4, "bytes": 4 * 27 + 3 * 4},
        "int32": {"number": 4 + 3, "bytes": 4 * 7},
    }
    assert found["weights"] == {"per_channel": 2, "per_tensor": 0, "not_quantized": 0}
    assert found["partitions"]["xnnpack"]["partitions"] == 1
    assert found["partitions"]["xnnpack"]["taken"] == 3
    assert found["arena"]["peak_bytes"] == 8 * 8 * 3 + 8 * 8 * 4
    assert found["constants"][0] == {"name": "weights", "shape": [4, 3, 3, 3], "dtype": "int8", "bytes": 108}


def test_explain_counts_macs_of_depthwise_grouped_and_strided():
    graph = new_graph((1, 8, 8, 4))
    conv(graph, 8, groups=2)
    assert explain(graph.to_bytes())["macs"] == {"CONV_2D": 8 * 8 * 8 * 9 * 2}
    graph = new_graph((1, 8, 8, 4))
    depthwise(graph)
    assert explain(graph.to_bytes())["macs"] == {"DEPTHWISE_CONV_2D": 8 * 8 * 4 * 9}


def test_explain_names_metadata_and_signatures(converted):
    content = converted("int8").files["model.tflite"]
    found = explain(content)
    assert found["signatures"][0]["name"] == "serving_default"
    assert len(found["signatures"][0]["inputs"]) == len(found["signatures"][0]["outputs"]) == 1
    assert "min_runtime_version" in found["metadata"]
    assert found["description"]
    assert "unread" not in found


def test_explain_sees_written_metadata():
    content = write_metadata(network("INT8", "UINT8").to_bytes(), described())
    found = explain(content)
    assert "TFLITE_METADATA" in found["metadata"]
    assert found["bytes"] == len(content)


def test_explain_of_shared_constants_counts_them_once():
    graph = new_graph((1, 8, 8, 4))
    image = graph.inputs[0]
    conv(graph)
    first = graph.ops[0]
    twins = [Tensor(f"{t.name}_2", t.shape, t.dtype, t.data) for t in first.inputs[1:]]
    add(graph, "CONV_2D", [image, *twins], image.shape, first.options)
    assert len(Graph(graph.to_bytes()).tensors()) == 7
    found = explain(graph.to_bytes())
    assert found["parameters"]["float32"]["number"] == 4 * 9 * 4 + 4
    assert found["macs"] == {"CONV_2D": 2 * 8 * 8 * 4 * 9 * 4}


def test_explain_says_so_when_the_graph_cannot_be_read():
    schema = schema_module()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(network().to_bytes(), 0))
    model.subgraphs = [model.subgraphs[0], model.subgraphs[0]]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    found = explain(bytes(builder.Output()))
    assert "2 subgraphs" in found["unread"]
    assert found["bytes"]
    assert found["metadata"] == []
    assert found.keys().isdisjoint(("macs", "partitions"))

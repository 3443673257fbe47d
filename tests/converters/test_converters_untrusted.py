import hashlib
import json
import random
import re
import subprocess
import sys
import time

import flatbuffers
import numpy as np
import pytest

from converters import Artifact, ConversionError, artifact, bounds, probe
from converters.artifact import RECORD, TFLITE
from converters.bounds import _layout
from converters.graph import FILE_IDENTIFIER, names_of, schema_module
from converters.probe import probe as run_probe
from converters.runners import TFLiteRunner
from converters.untrusted import check_tflite

SOURCE = "cat.tflite"


@pytest.fixture(autouse=True)
def clean_state():
    """No Keras model is made here."""


@pytest.fixture
def content(converted):
    return converted("int8").files[TFLITE]


def changed(content, change):
    """The file after a change of its object tree; all offsets are right again."""
    schema = schema_module()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    change(model)
    return packed(model)


def packed(model):
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def op(model, kind):
    names = names_of("BuiltinOperator")
    codes = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
    return next(op for op in model.subgraphs[0].operators if codes[op.opcodeIndex] == kind)


def tensor(model, kind, position):
    return model.subgraphs[0].tensors[op(model, kind).inputs[position]]


def refusal(content):
    with pytest.raises(
        ValueError, match=f"^{re.escape(SOURCE)} is not a TFLite model that can be used: "
    ) as caught:
        check_tflite(content, SOURCE)
    return str(caught.value)


@pytest.mark.parametrize("recipe", ["float32", "int8"])
def test_good_files_pass(converted, recipe):
    whole = converted(recipe).files[TFLITE]
    check_tflite(whole, SOURCE)
    check_tflite(changed(whole, lambda model: None), SOURCE)
    check_tflite(whole + b"PK\3\4 a ZIP archive of labels", SOURCE)


def test_the_layout_is_the_whole_schema():
    """The recorder against the object tree, which lists the same fields."""
    schema = schema_module()
    tables = [name for name, value in vars(schema).items() if hasattr(value, "GetRootAs")]
    assert len(tables) > 150
    for table in tables:
        fields = {field.name.lower() for field in _layout(table)}
        assert fields == {name.lower() for name in vars(getattr(schema, f"{table}T")())}, table
    kinds = {
        field.name: (field.width, field.kind) for table in ("Tensor", "Buffer") for field in _layout(table)
    }
    assert kinds["Shape"] == (4, "vector")
    assert kinds["Type"] == (1, "scalar")
    assert kinds["Name"][1] == "string"
    assert kinds["Size"] == (8, "scalar")


def overwritten(content, position, value):
    return content[:position] + value + content[position + len(value) :]


def mutations(content, count):
    """Cut, flip, overwrite: always the same ones."""
    chance = random.Random(5)
    for length in range(0, len(content), len(content) // 60):
        yield content[:length]
    words = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, len(content), len(content) // 2, 4, 1)
    for _ in range(count):
        mutant = content
        for _ in range(chance.randrange(1, 4)):
            word = chance.choice(words).to_bytes(4, "little")
            mutant = overwritten(mutant, 4 * chance.randrange(len(content) // 4), word)
        yield mutant
        yield overwritten(content, chance.randrange(len(content)), bytes([chance.randrange(256)]))


def test_damage_is_refused_or_harmless(content):
    refused = 0
    for mutant in mutations(content, 120):
        start = time.process_time()
        try:
            check_tflite(mutant, SOURCE)
        except ValueError as error:
            refused += str(error).startswith(SOURCE)
        assert time.process_time() - start < 1
    assert refused > 130


def test_swapped_tensors_are_refused_or_harmless(content):
    chance = random.Random(6)
    refused = 0
    for _ in range(60):

        def swap(model):
            first, second = (chance.choice(model.subgraphs[0].operators) for _ in range(2))
            one, other = (
                list(getattr(each, chance.choice(("inputs", "outputs")))) for each in (first, second)
            )
            i, j = chance.randrange(len(one)), chance.randrange(len(other))
            one[i], other[j] = other[j], one[i]
            first.inputs, second.outputs = one, other

        try:
            check_tflite(changed(content, swap), SOURCE)
        except ValueError:
            refused += 1
    assert refused > 30


def shared_subgraph(schema):
    """One subgraph with a long name, named 5,000 times: a reader would make 5,000 of them."""
    builder = flatbuffers.Builder(1 << 16)
    name = builder.CreateString("n" * 4000)
    schema.SubGraphStart(builder)
    schema.SubGraphAddName(builder, name)
    graph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 5000)
    for _ in range(5000):
        builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def test_offsets(content):
    root = int.from_bytes(content[:4], "little")
    assert "bytes 4 to 8 are not 'TFL3'" in refusal(b"")
    assert "bytes 4 to 8 are not 'TFL3'" in refusal(overwritten(content, 4, b"TFL2"))
    assert "table Model is at byte" in refusal(overwritten(content, 0, b"\xfc\xff\xff\xff"))
    assert "the offset of the root" in refusal(overwritten(content, 0, bytes(4)))
    assert "vtable of Model is at byte" in refusal(overwritten(content, root, b"\0\0\0\x80"))
    assert "outside of the file" in refusal(content[: len(content) // 2])
    assert "parts overlap" in refusal(shared_subgraph(schema_module()))


def test_offsets_reach_no_further_than_2_gib(content):
    class Huge(bytes):
        def __len__(self):
            return 2**31

    assert "2,147,483,648 bytes; less than 2 GiB" in refusal(Huge(content))


def test_alignment_and_text(content):
    # A description of four letters, which are in the file as they are.
    whole = changed(content, lambda model: setattr(model, "description", "cats"))
    at = whole.index(b"\4\0\0\0cats\0")
    assert "Description of Model does not end" in refusal(overwritten(whole, at + 8, b"!"))
    assert "Description of Model is not text" in refusal(overwritten(whole, at + 4, b"\xff"))
    assert "has 4294967295 elements" in refusal(overwritten(whole, at, b"\xff\xff\xff\xff"))


def test_a_table_that_is_cut_or_not_aligned(content):
    root = int.from_bytes(content[:4], "little")
    vtable = root - int.from_bytes(content[root : root + 4], "little", signed=True)
    assert "the table Model at byte" in refusal(overwritten(content, vtable + 2, b"\xff\xff"))
    version = int.from_bytes(content[vtable + 4 : vtable + 6], "little")
    moved = overwritten(content, vtable + 4, (version - 2).to_bytes(2, "little"))
    assert re.search("Version of Model at byte .* is not aligned", refusal(moved))
    buffers = root + int.from_bytes(content[vtable + 12 : vtable + 14], "little")
    start = int.from_bytes(content[buffers : buffers + 4], "little")
    assert "Buffers of Model is at byte" in refusal(
        overwritten(content, buffers, (start + 1).to_bytes(4, "little"))
    )


def test_a_vector_of_wide_numbers_that_is_not_aligned(content):
    schema = schema_module()
    found = schema.Model.GetRootAs(content, 0).Subgraphs(0).Tensors(0).Quantization()
    at = found._tab.Offset(10) + found._tab.Pos  # Where the offset of the zero points is.
    start = at + int.from_bytes(content[at : at + 4], "little")
    assert start % 8 == 4
    # Four bytes on, part of the number is read as the length.
    moved = overwritten(content, start + 4, (1).to_bytes(8, "little"))
    moved = overwritten(moved, at, (start + 4 - at).to_bytes(4, "little"))
    assert "ZeroPoint of QuantizationParameters at byte" in refusal(moved)


@pytest.mark.parametrize(
    ("most", "message"), [(10, "a model has 10 parts at most"), (100, "more than 100 parts")]
)
def test_too_many_parts(content, monkeypatch, most, message):
    monkeypatch.setattr(bounds, "_MOST_TABLES", most)
    assert message in refusal(content)


def test_a_scale_a_channel_where_there_is_one(content):
    """ADD would read a scale of zero."""

    def exchange(model):
        op(model, "ADD").inputs = [op(model, "ADD").inputs[0], op(model, "DEPTHWISE_CONV_2D").inputs[1]]

    assert "without one scale" in refusal(changed(content, exchange))


def scale_of(value):
    def change(model):
        tensor(model, "ADD", 0).quantization.scale = np.array([value], np.float32)

    return change


def setting(find, name, value):
    return lambda model: setattr(find(model), name, value)


def options(kind):
    return lambda model: op(model, kind).builtinOptions


def graph(model):
    return model.subgraphs[0]


def other_options(model):
    op(model, "CONV_2D").builtinOptionsType = op(model, "ADD").builtinOptionsType
    op(model, "CONV_2D").builtinOptions = op(model, "ADD").builtinOptions


def twice(model):
    graph(model).operators.append(graph(model).operators[0])


CHANGES = {
    "its schema version is 2": setting(lambda model: model, "version", 2),
    "it has no subgraph": setting(lambda model: model, "subgraphs", []),
    "the installed ai-edge-litert does not know": setting(
        lambda model: model.operatorCodes[0], "builtinCode", 9999
    ),
    "a custom one, has no name": setting(lambda model: model.operatorCodes[0], "builtinCode", 32),
    "metadata 0 names buffer 999": setting(lambda model: model.metadata[0], "buffer", 999),
    "metadata 0 has no name": setting(lambda model: model.metadata[0], "name", None),
    "signature 0 has no name": setting(lambda model: model.signatureDefs[0], "signatureKey", None),
    "signature 0 names subgraph 1": setting(lambda model: model.signatureDefs[0], "subgraphIndex", 1),
    "signature 0 names tensor 999": setting(
        lambda model: model.signatureDefs[0].inputs[0], "tensorIndex", 999
    ),
    "is of type 77": setting(lambda model: tensor(model, "ADD", 0), "type", 77),
    "names buffer 999": setting(lambda model: tensor(model, "ADD", 0), "buffer", 999),
    "data in another file": setting(lambda model: tensor(model, "ADD", 0), "externalBuffer", 1),
    "has the shape [1, -8": setting(lambda model: tensor(model, "ADD", 0), "shape", [1, -8, 8, 16]),
    "has the shape [65536, 65536": setting(lambda model: tensor(model, "ADD", 0), "shape", [65536, 65536]),
    "has 9 dimensions": setting(lambda model: tensor(model, "ADD", 0), "shape", [1] * 9),
    "which takes 640 bytes, but has 320": setting(
        lambda model: tensor(model, "FULLY_CONNECTED", 1), "shape", [20, 32]
    ),
    "has a scale that is not a positive number": scale_of(0),
    "scale that is not a positive": scale_of(np.inf),
    "that is not a positive number": scale_of(np.nan),
    "1 scales and 2 zero points": setting(
        lambda model: tensor(model, "ADD", 0).quantization, "zeroPoint", [0, 0]
    ),
    "zero point outside of -128 to 127": setting(
        lambda model: tensor(model, "ADD", 0).quantization, "zeroPoint", [128]
    ),
    "scales along dimension 1": setting(
        lambda model: tensor(model, "DEPTHWISE_CONV_2D", 1).quantization, "quantizedDimension", 1
    ),
    "2 minima and 0 maxima": setting(lambda model: tensor(model, "ADD", 0).quantization, "min", [0.0, 1.0]),
    "which nothing before it makes": lambda model: graph(model).operators.reverse(),
    "which has a value already": twice,
    "(CONV_2D) of the model has 1 inputs; 2 to 3": setting(lambda model: op(model, "CONV_2D"), "inputs", [0]),
    "names tensor -1": setting(lambda model: op(model, "ADD"), "inputs", [0, -1]),
    "(ADD) of the model has no output": setting(lambda model: op(model, "ADD"), "outputs", []),
    "names operator code 999": setting(lambda model: op(model, "ADD"), "opcodeIndex", 999),
    "has the options AddOptions; Conv2DOptions": other_options,
    "has the options none; Conv2DOptions": setting(
        lambda model: op(model, "CONV_2D"), "builtinOptions", None
    ),
    "with 3 dimensions; 4 are accepted": setting(
        lambda model: tensor(model, "CONV_2D", 0), "shape", [8, 8, 1]
    ),
    "strideH=0": setting(options("CONV_2D"), "strideH", 0),
    "dilationWFactor=-1": setting(options("DEPTHWISE_CONV_2D"), "dilationWFactor", -1),
    "filterWidth=0": setting(options("MAX_POOL_2D"), "filterWidth", 0),
    "strideW=1073741824": setting(options("MAX_POOL_2D"), "strideW", 2**30),
    "without one scale": setting(lambda model: tensor(model, "ADD", 1), "quantization", None),
    "scales that are too far apart": scale_of(1e25),
    "has no elements": setting(lambda model: tensor(model, "CONV_2D", 0), "shape", [1, 8, 0, 1]),
    "fusedActivationFunction=9": setting(options("ADD"), "fusedActivationFunction", 9),
    "padding=2": setting(options("CONV_2D"), "padding", 2),
    "is made by no operation": lambda model: graph(model).operators.pop(),
    "of the model is a constant": lambda model: setattr(
        graph(model), "inputs", [op(model, "CONV_2D").inputs[1]]
    ),
    "goes to byte 1000000000": lambda model: vars(model.buffers[0]).update(offset=999999999, size=1),
}


@pytest.mark.parametrize("message", CHANGES)
def test_what_makes_no_sense_is_named(content, message):
    assert message in refusal(changed(content, CHANGES[message]))


def bare_model(kind, subgraphs):
    """Subgraphs with nothing but an operation each."""
    schema = schema_module()
    model, code = schema.ModelT(), schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, kind)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    model.version, model.operatorCodes, model.buffers, model.subgraphs = 3, [code], [schema.BufferT()], []
    for _ in range(subgraphs):
        subgraph = schema.SubGraphT()
        subgraph.operators, subgraph.tensors = [schema.OperatorT()], []
        model.subgraphs.append(subgraph)
    return model


def calling(*indices):
    """A file of some subgraphs, each of which runs the one that `indices` name."""
    schema = schema_module()
    model = bare_model("CALL_ONCE", len(indices))
    for subgraph, index in zip(model.subgraphs, indices, strict=True):
        if index is None:
            subgraph.operators = []
            continue
        subgraph.operators[0].builtinOptionsType = schema.BuiltinOptions.CallOnceOptions
        subgraph.operators[0].builtinOptions = schema.CallOnceOptionsT()
        subgraph.operators[0].builtinOptions.initSubgraphIndex = index
    return packed(model)


def test_subgraphs_that_run_each_other():
    check_tflite(calling(1, 2, None), SOURCE)
    assert "run each other in a circle" in refusal(calling(1, 2, 1))
    assert "run each other in a circle" in refusal(calling(0))
    assert "names subgraph 3, of 3" in refusal(calling(1, 3, None))


def test_a_size_of_zero():
    """The kernel of TRANSPOSE_CONV would not come back."""

    def transposed(*size):
        schema = schema_module()
        model, sizes = bare_model("TRANSPOSE_CONV", 1), schema.BufferT()
        sizes.data = np.array(size, np.int32).view(np.uint8)
        image = schema.BufferT()
        image.data = np.zeros(4, np.uint8)
        model.buffers += [sizes, image]
        for shape, kind, buffer in (
            ((4,), "INT32", 1),
            ((1, 1, 1, 1), "FLOAT32", 2),
            ((1, 1, 1, 1), "FLOAT32", 0),
        ):
            value = schema.TensorT()
            value.shape, value.type, value.buffer = shape, getattr(schema.TensorType, kind), buffer
            graph(model).tensors.append(value)
        graph(model).inputs, graph(model).outputs = [2], [3]
        graph(model).tensors.append(graph(model).tensors[2])
        only = graph(model).operators[0]
        only.inputs, only.outputs = [0, 1, 2], [3]
        only.builtinOptionsType = schema.BuiltinOptions.TransposeConvOptions
        only.builtinOptions = schema.TransposeConvOptionsT()
        only.builtinOptions.strideH = only.builtinOptions.strideW = 1
        return packed(model)

    check_tflite(transposed(1, 1, 1, 1), SOURCE)
    assert "is to make the size [1, 1, 1, 0]; 1 and more are accepted" in refusal(transposed(1, 1, 1, 0))


def wider(model):
    """The first filter reads 2 channels, of an image that has 1: for the runtime to find."""
    filters = tensor(model, "CONV_2D", 1)
    filters.shape = [8, 3, 3, 2]
    filters.quantization.scale = filters.quantization.scale[:8]
    filters.quantization.zeroPoint = filters.quantization.zeroPoint[:8]


def test_probing(content, converted):
    found = run_probe(content, SOURCE)
    assert found["partitions"] >= 1
    assert sum(found["ops_outside"].values()) < sum(converted("int8").record["ops"].values())
    assert run_probe(converted("float32").files[TFLITE], SOURCE) == {"partitions": 1, "ops_outside": {}}
    refused = changed(content, wider)
    check_tflite(refused, SOURCE)
    with pytest.raises(ValueError, match=r"^cat.tflite cannot be run: RuntimeError: "):
        run_probe(refused, SOURCE)


def test_a_crash_in_the_child_is_an_error_here(monkeypatch):
    for code, error, message in (
        ("import os; os.abort()", ValueError, "cat.tflite cannot be run: it ends .* SIGABRT"),
        ("import time; time.sleep(60)", ValueError, "cat.tflite cannot be run: it was not done after 0.5 s"),
        ("raise ImportError('no runtime')", ConversionError, r"stopped \(ImportError: no runtime\)"),
    ):
        monkeypatch.setattr(probe, "COMMAND", [sys.executable, "-c", code])
        with pytest.raises(error, match=message):
            run_probe(b"", SOURCE, seconds=0.5 if "sleep" in code else 60)


def test_the_child_imports_only_the_runtime():
    command = [*probe.COMMAND[:1], "-X", "importtime", *probe.COMMAND[1:]]
    log = subprocess.run(command, input=b"", capture_output=True, check=True).stderr.decode()
    modules = {line.rsplit("|", 1)[1].strip() for line in log.splitlines() if line.startswith("import time:")}
    assert "ai_edge_litert.interpreter" in modules
    assert not modules & {"keras", "tensorflow", "converters", "keras_archs"}


def tampered(folder, made, model=None, **record):
    """A saved artifact in which somebody changed files and hashes."""
    folder.mkdir(exist_ok=True)
    content = made.files[TFLITE] if model is None else model
    (folder / TFLITE).write_bytes(content)
    facts = {TFLITE: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}}
    (folder / RECORD).write_text(json.dumps({**made.record, "files": facts, **record}))
    return folder


def test_a_damaged_model_with_the_right_hash_is_not_loaded(tmp_path, converted, content):
    damaged = tampered(tmp_path, converted("int8"), content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"model.tflite' is not a TFLite model that can be used: .*outside"):
        Artifact.load(damaged)


def test_a_model_that_crashes_does_not_crash_the_caller(tmp_path, converted, content, data, monkeypatch):
    folder = tampered(tmp_path, converted("int8"), changed(content, wider))
    monkeypatch.setattr(artifact, "TFLiteRunner", None)  # Nothing may be run in this process.
    for run in (
        lambda made: made(data[:1]),
        lambda made: made.logits(data[:1]),
        lambda made: made.latency(runs=1),
    ):
        loaded = Artifact.load(folder)
        for _ in range(2):
            with pytest.raises(ValueError, match=r"model.tflite' cannot be run: RuntimeError"):
                run(loaded)


def test_a_loaded_model_is_tried_out_once(tmp_path, converted, data, monkeypatch):
    calls = []
    monkeypatch.setattr(artifact, "probe", lambda content, source: calls.append(source))
    loaded = Artifact.load(tampered(tmp_path, converted("int8")))
    assert not calls
    loaded(data[:1])
    loaded.logits(data[:1])
    loaded.latency(runs=1)
    assert calls == [repr(str(tmp_path / TFLITE))]
    Artifact(loaded.record, loaded.files)(data[:1])  # Made here, as `convert` does.
    assert len(calls) == 1


def test_a_record_that_describes_another_model_is_refused(tmp_path, converted):
    made = converted("int8")
    image = {**made.record["inputs"][0], "shape": [1, 9, 9, 1]}
    for record, message in (
        (
            {"inputs": [image]},
            r"describes inputs \[\[1, 9, 9, 1\]\], but 'model.tflite' has \[\[1, 8, 8, 1\]\]",
        ),
        ({"outputs": made.record["outputs"] * 2}, "describes outputs"),
        ({"inputs": [{**image, "shape": [1, None, 8, 1]}]}, "is damaged"),
        ({"inputs": [{**image, "shape": [1, "8", 8, 1]}]}, "is damaged"),
        ({"recipe": ["int8"]}, "is damaged"),
        ({"recipe": "saved_model"}, "files are not those of its recipe"),
        ({"ends_in_softmax": False}, "wrong about whether 'model.tflite' ends in a softmax"),
    ):
        with pytest.raises(ValueError, match=message):
            Artifact.load(tampered(tmp_path, made, **record))
    (tmp_path / RECORD).write_text("[" * 100_000)
    with pytest.raises(ValueError, match="is not JSON"):
        Artifact.load(tmp_path)


def test_a_signature_that_does_not_number_its_outputs(content):
    def rename(model):
        model.signatureDefs[0].outputs[0].name = b"cat"
        graph(model).outputs = [*graph(model).outputs, op(model, "SOFTMAX").inputs[0]]

    with pytest.raises(ValueError, match=r"has the outputs \['cat'\]; output_0, output_1 and so on"):
        TFLiteRunner(changed(content, rename), 1).in_signature_order()

import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import converters_helpers as helpers
import numpy as np
import pytest
import typer

from converters import Artifact, ConversionError, verify
from converters.comparison import compare, compare_artifacts, frontier
from converters.formats import byte_size, milliseconds
from converters.graph import Graph
from converters.report import page
from keras_archs.modes import MODES
from keras_archs_cli import exporting

module = sys.modules[compare.__module__]  # The package has a function of this name.
RECIPES = ("float32", "dynamic_int8", "int8")


@pytest.fixture(autouse=True)
def clean_state():
    """No Keras model is made here."""


@pytest.fixture(scope="module")
def artifacts(shared):
    return {recipe: helpers.converted(shared, recipe) for recipe in RECIPES}


@pytest.fixture(scope="module")
def found(shared, artifacts):
    images, labels = (part[1200:1500] for part in helpers.digits())
    return compare_artifacts(artifacts, helpers.trained(shared), images, labels, threads=(2, 1), runs=3)


@pytest.fixture
def by_label(found):
    return {row.label: row for row in found.rows}


def test_numbers_are_those_of_verify(found, by_label, artifacts, trained, data, labels):
    assert list(by_label) == list(RECIPES)
    assert (found.model_name, found.samples, found.compared) == ("tiny", 300, "logits")
    for recipe in ("float32", "int8"):
        report, row = verify(artifacts[recipe], trained, data, labels), by_label[recipe]
        assert found.keras_accuracy == report.keras_accuracy
        assert (row.accuracy, row.agreement) == (report.artifact_accuracy, report.agreement)
        assert (row.sqnr_db, row.failures) == (report.sqnr_db, ())
        assert row.size_bytes == len(artifacts[recipe].files["model.tflite"])
        assert found.artifacts[recipe].record["verification"]["sqnr_db"] == report.sqnr_db


def test_rows_say_what_runs_where(by_label):
    row = by_label["int8"]
    assert (row.partitions, row.outside) == (1, {"SOFTMAX": 1})
    assert row.delegates["edgetpu"]["taken"] == row.delegates["edgetpu"]["total"] == 11
    assert by_label["float32"].outside == {}
    assert 4 * row.arena_bytes == pytest.approx(by_label["float32"].arena_bytes, rel=0.05)
    assert row.arena_op == "CONCATENATION concatenate"
    assert row.lint["edgetpu"] == ()
    assert row.lint["browser"][0].severity == "error"
    assert "gpu_delegate" not in row.lint  # It is for float models.


def test_the_layers_of_integer_rows_are_blamed(found, artifacts):
    assert list(found.blame) == ["int8"]
    made = {op.output.name for op in Graph(artifacts["int8"].files["model.tflite"]).ops}
    assert {error.tensor for error in found.blame["int8"]} == made
    logits = [error.logits_sqnr_db for error in found.blame["int8"] if np.isfinite(error.logits_sqnr_db)]
    assert logits == sorted(logits)


def test_no_layer_is_blamed_by_another_float_graph(artifacts, trained, data):
    def but(label, **plan):
        record = artifacts[label].record
        return Artifact(record | {"plan": record["plan"] | plan}, artifacts[label].files)

    def blamed(*parts, **given):
        some = dict(zip("ab", parts, strict=False))
        return set(compare_artifacts(some, trained, data[:4], threads=[1], runs=1, **given).blame)

    assert blamed(artifacts["int8"]) == set()
    assert blamed(artifacts["int8"], but("float32", rewrites=[])) == set()
    assert blamed(but("int8", corrections=["equalization"]), artifacts["float32"]) == set()
    assert blamed(but("int8", corrections=["bias_correction"]), artifacts["float32"]) == {"a"}
    assert blamed(artifacts["int8"], floats={"a": artifacts["float32"].files["model.tflite"]}) == {"a"}


def test_an_artifact_out_of_tolerance_is_a_row(artifacts, data, labels):
    other = helpers.tiny_cnn()
    result = compare_artifacts(
        {"mine": artifacts["int8"]}, other, data[:50], labels[:50], threads=[1], runs=1
    )
    assert [row.label for row in result.failed] == ["mine"]
    assert "SQNR" in result.rows[0].failures[0]
    assert any("mine is not as its recipe says: SQNR" in sentence for sentence in result.headline())
    assert "FAILED" in str(result)
    assert '<span class="bad">failed</span>' in page(result)


def test_candidates_take_turns(artifacts, monkeypatch):
    calls = []

    def runner(artifact, threads):
        def call(name):
            return lambda *_: calls.append(f"{name}{artifact.recipe[0]}{threads}")

        return SimpleNamespace(set_input=call("set "), invoke=call(""))

    monkeypatch.setattr(module, "_runner", runner)
    some = {label: artifacts[label] for label in ("float32", "int8")}
    times = module._latencies(some, None, (1, 3), 2, lambda *_: None)
    turn = ["f1", "f1", "i1", "i1"]
    assert calls[:12] == ["set f1", "f1", "set i1", "i1", *turn, *turn]
    assert [(one.num_threads, one.runs) for one in times["int8"]] == [(1, 2), (3, 2)]


def test_latency_is_the_second_of_two_runs(artifacts, monkeypatch):
    clock = iter(np.cumsum([0, 0.001, 5, 0.004, 5, 0.002]))  # Seconds: start, end, start, ...
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    quiet = SimpleNamespace(set_input=lambda image: None, invoke=lambda: None)
    monkeypatch.setattr(module, "_runner", lambda *_: quiet)
    (latency,) = module._latencies({"a": artifacts["int8"]}, None, [1], 3, lambda *_: None)["a"]
    assert latency.median_ms == pytest.approx(2)
    assert (latency.p10_ms, latency.p90_ms) == (pytest.approx(1.2), pytest.approx(3.6))


def test_headline_compares_with_float32(found, by_label):
    def timed(row, one, two, **others):
        pair = zip(row.latency, (two, one), strict=True)  # The threads are (2, 1).
        return replace(row, latency=tuple(replace(old, median_ms=ms) for old, ms in pair), **others)

    rows = (
        timed(by_label["float32"], 9.0, 6.0, size_bytes=4000),
        timed(by_label["int8"], 1.0, 2.0, size_bytes=1000, agreement=0.993),
    )
    accuracy = f"{by_label['int8'].accuracy:.2%} against {found.keras_accuracy:.2%}"
    assert replace(found, rows=rows).headline() == [
        "int8 is 4.0 times smaller and 3.0 times faster than float32 (2 threads), agrees with the Keras "
        f"model on 99.3% of 300 images and has an accuracy of {accuracy}."
    ]
    slow = (rows[0], timed(rows[1], 1.0, 15.0, accuracy=None, agreement=None, size_bytes=3999, sqnr_db=12.0))
    assert replace(found, rows=slow).headline() == [
        "int8 is not smaller and 2.5 times slower than float32 (2 threads) and has a signal to noise ratio "
        "of 12.0 dB on 300 images."
    ]


def test_table_has_a_line_a_candidate(found):
    lines = str(found).splitlines()
    assert lines[0].split() == (
        "candidate accuracy agreement SQNR size 2 threads 1 thread XNNPACK memory".split()
    )
    assert [line.split()[0] for line in lines[1:5]] == ["Keras", *RECIPES]
    assert "1 part" in lines[4]


def test_json_has_no_infinity(found):
    rows = (replace(found.rows[0], sqnr_db=np.inf), replace(found.rows[1], sqnr_db=float("nan")))
    text = json.dumps(replace(found, rows=rows).to_dict(), allow_nan=False)
    read = json.loads(text)
    assert [row["sqnr_db"] for row in read["rows"]] == ["inf", "nan"]
    assert read["rows"][0]["latency"][0]["num_threads"] == 2
    assert read["blame"]["int8"][0]["kind"] == found.blame["int8"][0].kind
    assert "artifacts" not in read


def test_page_and_json_are_saved(found, tmp_path):
    path = found.save(tmp_path / "new" / "report.html", date="1 May 2031")
    html = path.read_text(encoding="utf-8")
    assert json.loads(path.with_suffix(".json").read_text())["model_name"] == "tiny"
    assert "1 May 2031" in html
    assert html == page(found, "1 May 2031")
    assert sorted(file.name for file in path.parent.iterdir()) == ["report.html", "report.json"]
    with pytest.raises(ValueError, match=r"'.*report' must end in \.html"):
        found.save(tmp_path / "report")


def test_page_says_everything_and_loads_nothing(found, by_label):
    html = page(found)
    for title in ("Numbers", "Time against ", "Where the quality goes", "Rewrites", "Delegates and"):
        assert f"<h2>{title}" in html
    assert all(
        re.fullmatch(r"data:image/png;base64,[\w+/=]+", source) for source in re.findall('src="(.*?)"', html)
    )
    assert html.count("<img") == 2
    assert not re.search(r"<script|<link|url\(|@import|https?://", html)
    assert found.headline()[0] in html
    worst = found.blame["int8"][0]
    assert f"<li>{worst.name} ({worst.kind}, " in html
    assert html.count("<table>") == html.count("</table>") == 3
    used = replace(by_label["int8"], rewrites={"relu_into_add": 11})
    again = page(replace(found, rows=(used,), calls={"int8": "converters.convert(model, 'int8')"}))
    assert "<code>relu_into_add</code>" in again
    assert "relu(a + b) = add_relu(a, b)" in again
    assert "converters.convert(model, &#x27;int8&#x27;)" in again


def test_page_escapes_what_users_call_things(found):
    evil = "<script>$x$ & [red]"
    rows = (replace(found.rows[2], label=evil, arena_op=f"ADD {evil}"),)
    errors = (replace(found.blame["int8"][0], name=evil),)
    tricky = replace(
        found, model_name=evil, rows=rows, blame={evil: errors}, refused={evil: evil}, calls={evil: evil}
    )
    html = page(tricky, evil)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 8
    assert evil in str(tricky).splitlines()[2]


@pytest.mark.parametrize("accuracy", [None, 0.9])
@pytest.mark.parametrize("agreement", [None, 0.9])
def test_page_of_models_without_classes(found, accuracy, agreement):
    rows = tuple(
        replace(row, accuracy=accuracy, agreement=agreement, sqnr_db=np.inf) for row in found.rows[:2]
    )
    rows = (rows[0], replace(rows[1], accuracy=accuracy and 0.8, agreement=agreement and 0.8))
    html = page(replace(found, rows=rows, keras_accuracy=accuracy, blame={}))
    assert (">accuracy</th>" in html, ">agreement</th>" in html) == (bool(accuracy), bool(agreement))
    assert ("accuracy" in str(replace(found, rows=rows, keras_accuracy=accuracy))) is bool(accuracy)
    expected = "accuracy" if accuracy else "agreement with the Keras model" if agreement else "SQNR in dB"
    assert f"<h2>Time against {expected}</h2>" in html


def test_compare_converts_each_candidate(artifacts, monkeypatch, trained, data):
    calls = []

    def convert(model, recipe="int8", *, representative_data=None, progress=None, rewrite="default", **rest):
        calls.append((recipe, rewrite, rest, representative_data is not None))
        if recipe == "float16":
            raise ConversionError("no half floats today")
        record = artifacts[recipe].record
        plan = record["plan"] | ({"rewrites": []} if rewrite == "none" else {})
        return Artifact(record | {"plan": plan}, artifacts[recipe].files)

    convert.__signature__ = module.inspect.signature(module.convert)
    monkeypatch.setattr(module, "convert", convert)
    recipes = [
        "float16",
        ("plain", {"rewrite": "none"}),
        ("clipped", {"ranges": "percentile", "rewrite": "none"}),
    ]
    result = compare(
        trained, data[:20], recipes=recipes, representative_data=data, threads=[1], runs=1, progress=False
    )
    assert calls == [
        ("float16", "default", {}, True),
        ("int8", "none", {}, True),
        ("int8", "none", {"ranges": "percentile"}, True),
        ("float32", "none", {}, False),  # One float side for both.
    ]
    assert [row.label for row in result.rows] == list(result.blame) == ["plain", "clipped"]
    assert result.refused == {"float16": "no half floats today"}
    assert "float16 could not be converted: no half floats today" in result.headline()
    assert result.calls["clipped"] == (
        "converters.convert(model, 'int8', representative_data=images, ranges='percentile', rewrite='none')"
    )
    with pytest.raises(ConversionError, match="no half floats"):
        compare(trained, data, recipes=["float16"])


def test_compare_really_converts(trained, data, labels):
    result = compare(
        trained, data, labels, recipes=[("mse", {"recipe": "int8", "ranges": "mse"})],
        representative_data=helpers.digits()[0][:100], threads=[1], runs=3, progress=False,
    )  # fmt: skip
    assert result.artifacts["mse"].record["plan"]["ranges"] == "mse"
    assert result.rows[0].accuracy > 0.85
    assert len(result.blame["mse"]) == 11


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"recipes": []}, ValueError, "recipes is empty"),
        ({"recipes": ["int7"]}, ValueError, "recipe='int7'.*int8"),
        ({"recipes": ["int8", ("int8", {})]}, ValueError, "'int8' twice"),
        ({"recipes": [("a", {"range": "mse"})]}, ValueError, "argument of 'a'.*ranges"),
        ({"recipes": [("a", {"progress": True})]}, ValueError, "argument of 'a'"),
        ({"recipes": [("a", {"rewrite": ["relu_into_ad"]})]}, ValueError, "rewrite.*relu_into_add"),
        ({"recipes": [("a", {"ranges": "mes"})]}, ValueError, "ranges='mes'.*mse"),
        ({"representative_data": None}, ValueError, "representative_data=None, but 'int8'"),
        ({"recipes": ["float32", ("b", {"include_preprocessing": True})]}, ValueError, "for some candidates"),
        ({"data": iter([1])}, TypeError, "data is a list_iterator"),
        ({"recipes": ["int8", ("b", {})], "representative_data": iter([1])}, TypeError, "tive_data is"),
        ({"threads": []}, ValueError, r"threads=\[\]"),
        ({"threads": [1, 1]}, ValueError, "threads="),
        ({"threads": [0]}, ValueError, "threads="),
        ({"runs": 0}, ValueError, "runs=0"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_before_anything_is_converted(monkeypatch, change, error, message):
    monkeypatch.setattr(module, "load_model", lambda model: pytest.fail("went on"))
    arguments = {
        "data": np.zeros((1, 8, 8, 1)),
        "recipes": ["int8"],
        "representative_data": np.zeros((1, 8, 8, 1)),
    }
    with pytest.raises(error, match=message):
        compare("model.keras", **{**arguments, **change})


def test_no_artifact_is_no_comparison(trained, data):
    with pytest.raises(ValueError, match="artifacts is empty"):
        compare_artifacts({}, trained, data)


def test_frontier():
    assert frontier([(1, 0.5), (2, 0.9), (3, 0.7), (2, 0.8), (4, 0.9)]) == [0, 1]
    assert frontier([(1, 0.9), (1, 0.9), (0.5, 0.1)]) == [2, 0]


def test_numbers_for_people():
    assert [byte_size(n) for n in (7, 999, 18_600, 999_700, 24_193_520, 10**9)] == (
        ["7 bytes", "999 bytes", "18.6 kB", "1000 kB", "24.2 MB", "1 GB"]
    )
    assert [milliseconds(ms) for ms in (0.0123, 1.2345, 25.04)] == ["0.012 ms", "1.23 ms", "25.0 ms"]


def written(artifact, folder, change=None):
    graph = Graph(artifact.files["model.tflite"])
    if change:
        change(graph)
    (folder / "some.tflite").write_bytes(graph.to_bytes())
    return folder / "some.tflite"


def test_inspect_explains_a_file(artifacts, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    exporting.inspect_file(written(artifacts["int8"], tmp_path))
    text = capsys.readouterr().out
    assert re.search(r"file +some\.tflite, 1\d\.\d kB", text)
    assert re.search(r"input .*1x8x8x1 int8, value = 0\.00784314 \* \(integer \+1\)", text)
    assert re.search(r"CONV_2D +4 +int8 +125 k", text)
    assert re.search(r"xnnpack +10 of 11 +1 +1 SOFTMAX: takes float32, not int8", text)
    assert re.search(r"coreml +0 of 11 +0 +all: takes float32, not int8", text)
    assert "No metadata" in text


def test_inspect_shows_metadata_and_labels(capsys, monkeypatch, request):
    monkeypatch.setenv("COLUMNS", "140")
    path = request.path.with_name("mediapipe_metadata.tflite")
    exporting.inspect_file(path)
    text = capsys.readouterr().out
    assert "image; RGB; (pixel - 127.5) / 127.5" in text
    assert "3 labels: cat, dog, crane; 3 labels [de]: Katze, Hund, Kranich" in text
    exporting.inspect_file(path, as_json=True)
    read = json.loads(capsys.readouterr().out)
    assert read["described"]["inputs"][0]["mean"] == [127.5]
    assert read["described"]["outputs"][0]["labels"][1]["names"] == ["Katze", "Hund", "Kranich"]
    assert read["total_macs"] == 0


def test_inspect_explains_a_file_whose_labels_are_lost(request, tmp_path, capsys):
    """What anything leaves that writes the model again: the description without the files behind it."""
    content = request.path.with_name("mediapipe_metadata.tflite").read_bytes()
    path = tmp_path / "bare.tflite"
    path.write_bytes(Graph(content).to_bytes())
    exporting.inspect_file(path)
    assert re.search("Metadata not read: .*labels", " ".join(capsys.readouterr().out.split()))
    exporting.inspect_file(path, as_json=True)
    assert "labels" in json.loads(capsys.readouterr().out)["described"]["unread"]


def test_inspect_is_not_fooled_by_names(artifacts, tmp_path, capsys):
    def rename(graph):
        graph.inputs[0].name = "[red]\x1b[2Jgone\n" + 200 * "x"

    exporting.inspect_file(written(artifacts["int8"], tmp_path, rename))
    text = capsys.readouterr().out
    assert "[red]\N{REPLACEMENT CHARACTER}[2Jgone\N{REPLACEMENT CHARACTER}xxx" in text
    assert "\x1b" not in text
    assert "x" * 61 not in text


def test_inspect_refuses_a_damaged_file(artifacts, tmp_path):
    path = written(artifacts["int8"], tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"some\.tflite' is not a TFLite model"):
        exporting.inspect_file(path)


@pytest.fixture
def run(monkeypatch, found, tmp_path):
    """A run folder, and a comparison in place of the conversions."""
    calibration = np.zeros((50, 8, 8, 3), np.float32)
    splits = SimpleNamespace(
        dataset=lambda split: split, labels=lambda split: f"{split} labels", train=range(50),
        images=lambda split, n: calibration if (split, n) == ("train", 50) else None, mode="tf",
    )  # fmt: skip
    opened = SimpleNamespace(load_model=lambda: "model", data=lambda: splits)
    monkeypatch.setattr(exporting.Run, "open", lambda path: opened)
    asked = []
    monkeypatch.setattr(exporting, "compare", lambda *args, **kwargs: asked.append((args, kwargs)) or found)
    return SimpleNamespace(folder=tmp_path, asked=asked, calibration=calibration)


def test_compare_run_leaves_artifacts_and_a_report(run, capsys):
    exporting.compare_run(run.folder)
    ((args, kwargs),) = run.asked
    assert args == ("model", "test", "test labels")
    assert kwargs["representative_data"] is run.calibration
    *files, saved_model = kwargs["recipes"]
    assert files == [name for name in exporting.list_recipes() if name not in ("int16x8", "saved_model")]
    assert saved_model == ("saved_model", {"recipe": "saved_model", "include_preprocessing": MODES["tf"]})
    inside = run.folder / "artifacts"
    assert {path.name for path in inside.iterdir()} == {*RECIPES, "report.html", "report.json"}
    assert Artifact.load(inside / "int8").record["verification"]["passed"]
    text = capsys.readouterr().out
    assert "int8 is" in text
    assert "artifacts/report.html" in text.replace("\n", "")


def test_compare_run_does_not_keep_what_failed(run, found, monkeypatch, capsys):
    rows = (*found.rows[:2], replace(found.rows[2], failures=("SQNR 3 dB is below 20 dB",)))
    monkeypatch.setattr(exporting, "compare", lambda *args, **kwargs: replace(found, rows=rows))
    with pytest.raises(typer.Exit) as caught:
        exporting.compare_run(run.folder, ["int8"], as_json=True)
    assert caught.value.exit_code == 1
    assert json.loads(capsys.readouterr().out)["rows"][2]["failures"]
    assert not (run.folder / "artifacts" / "int8").exists()
    assert (run.folder / "artifacts" / "report.html").exists()

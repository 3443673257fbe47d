import tracemalloc

import numpy as np
import pytest
from graph_builder import Build, run

from converters import calibration
from converters.calibration import (
    METHODS,
    Histogram,
    Statistics,
    around_zero,
    choose_range,
    observe,
    set_ranges,
)
from converters.errors import ConversionError
from converters.graph import Graph, constant, options

BINS = 2048


@pytest.fixture(autouse=True)
def clean_state():
    """No Keras here."""


def counted(*parts):
    """A histogram of arrays, added one after the other."""
    histogram = Histogram()
    for part in parts:
        values = np.asarray(part, np.float32)
        histogram.add(values, float(values.min()), float(values.max()))
    return histogram


def statistics(*parts):
    """What `observe` would have seen of these values."""
    parts = [np.asarray(part, np.float32) for part in parts]
    low, high = min(map(np.min, parts)), max(map(np.max, parts))
    return Statistics(float(low), float(high), (float(low), float(high)), counted(*parts))


def normal(count=100_000, seed=0):
    return np.random.default_rng(seed).normal(size=count).astype(np.float32)


def silent(stage, done, total):
    pass


class TestHistogram:
    @pytest.mark.parametrize(
        "parts",
        [
            ([0.0, 1.0], [-3.0, 0.5]),  # downwards
            ([0.0, 1.0], [7.0, 0.5]),  # upwards
            ([0.0, 1.0], [-100.0, 200.0], [-5000.0]),  # both
            ([0.0, 1e-6], [1.0, 1e6], [-1e9]),  # by orders of magnitude
            ([5.0, 5.0], [5.0], [-2.0, 9.0]),  # constant at first
            ([0.0, 0.0], [0.0], [3.0]),  # zeros at first
            ([-1e6, -1e6 + 0.25], [-1e6 - 7, 3.0]),  # far from 0 and narrow
        ],
    )
    def test_every_value_lies_in_its_bin(self, parts):
        histogram = counted(*parts)
        values = np.concatenate(parts).astype(np.float32).astype(np.float64)
        assert histogram.counts.sum() == len(values)
        filled = histogram.centers[np.repeat(np.arange(BINS), histogram.counts)]
        assert np.abs(filled - np.sort(values)).max() <= histogram.width / 2

    def test_bins_stay_fine_when_the_range_grows(self):
        histogram = counted(np.linspace(0, 1, 50), np.linspace(-1, 20, 50))
        assert histogram.width * BINS <= 4 * 21

    def test_doubling_adds_neighbours(self):
        histogram = Histogram(0.0, 1.0, np.arange(BINS))
        histogram.add(np.float32([3000.0]), 3000.0, 3000.0)
        assert (histogram.low, histogram.width) == (0.0, 2.0)
        expected = np.arange(BINS).reshape(-1, 2).sum(axis=1)
        expected = np.concatenate([expected, np.zeros(BINS // 2, int)])
        expected[1500] += 1
        np.testing.assert_array_equal(histogram.counts, expected)
        histogram.add(np.float32([-1.0]), -1.0, -1.0)
        assert (histogram.low, histogram.width) == (-4096.0, 4.0)
        assert histogram.counts[:1023].sum() == 0
        assert histogram.counts[1023] == 1
        assert histogram.counts[1024] == expected[0] + expected[1]

    def test_same_data_same_histogram(self):
        parts = np.split(normal(1000), 10)
        first, second = counted(*parts), counted(*parts)
        assert (first.low, first.width) == (second.low, second.width)
        np.testing.assert_array_equal(first.counts, second.counts)

    def test_the_zeros_of_a_relu_do_not_count(self):
        values = np.maximum(normal(), 0)
        for histogram in (counted(values), counted(values, [-0.3], values), counted([2.0], [-9.0], values)):
            zero = int(np.argmax(histogram.counts))
            assert histogram.counts[zero] > len(values) / 3
            assert histogram.without_zero()[zero] == histogram.counts[zero + 1]
            rest = np.arange(BINS) != zero
            np.testing.assert_array_equal(histogram.without_zero()[rest], histogram.counts[rest])

    @pytest.mark.parametrize("low", np.linspace(0.001, 2, 50))
    def test_zeros_are_found_wherever_the_bins_begin(self, low):
        values = np.concatenate([np.zeros(1000), np.linspace(-low, 1.7, 400)])
        assert counted(values).without_zero().max() < 100

    def test_without_a_zero_among_them_all_count(self):
        histogram = counted(np.repeat([1.0, 5.0], [500, 1]))
        np.testing.assert_array_equal(histogram.without_zero(), histogram.counts)


class TestChoosing:
    def test_minmax_and_moving_average_are_what_was_seen(self):
        seen = Statistics(-2.0, 8.0, average=(-1.5, 6.0))
        assert choose_range(seen, "minmax") == (-2.0, 8.0)
        assert choose_range(seen, "moving_average") == (-1.5, 6.0)

    @pytest.mark.parametrize(
        ("method", "least", "most"),
        # A standard normal's percentile of 99.999 is 4.26; its greatest of a million is near 5.
        [("percentile", 4.1, 4.5), ("mse", 3.5, 7.5), ("entropy", 3, 6)],
    )
    def test_an_outlier_in_a_million_is_cut_off(self, method, least, most):
        seen = statistics(normal(500_000), normal(500_000, 1), [20.0])
        low, high = choose_range(seen, method)
        assert least < high < most
        assert -most < low < -least
        assert choose_range(seen, "minmax")[1] == 20

    @pytest.mark.parametrize("method", ["mse", "entropy"])
    def test_the_zeros_of_a_relu_do_not_shrink_the_range(self, method):
        positive = np.abs(normal(20_000))
        alone = choose_range(statistics([0.0], positive), method)
        among_zeros = choose_range(statistics(np.zeros(5_000_000), [0.0], positive), method)
        assert alone[0] == among_zeros[0] == 0
        assert alone[1] == pytest.approx(among_zeros[1], rel=0.05)
        assert alone[1] > 2.5

    @pytest.mark.parametrize("method", ["percentile", "mse", "entropy"])
    def test_each_side_is_chosen_by_itself(self, method):
        values = np.where(normal() > 0, np.abs(normal(seed=1)), -10 * np.abs(normal(seed=2)))
        low, high = choose_range(statistics(values), method)
        assert -45 < low < -20
        assert 0 < high < 5 if method == "percentile" else high <= values.max()

    def test_mse_is_the_least_squared_error(self):
        values = np.concatenate([normal(1_000_000), np.float32([20])])
        seen = statistics(values)

        def error(low, high):
            step = (high - low) / 255
            return np.sum((np.clip(np.round((values - low) / step), 0, 255) * step + low - values) ** 2)

        best = error(*choose_range(seen, "mse"))
        assert best < 0.5 * error(seen.low, seen.high)
        grid = (0.8, 0.9, 1, 1.1, 1.3)
        low, high = choose_range(seen, "mse")
        assert best <= 1.02 * min(error(low * a, high * b) for a in grid for b in grid)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize(
        "values", [[3.0, 5.0], [-5.0, -3.0], [2.0, 2.0], [-2.0], [0.0], [1e-30, 3e-30], [-1e20, 1e20]]
    )
    def test_zero_lies_inside_and_nothing_beyond_what_was_seen(self, method, values):
        values = np.float32(values).tolist()
        low, high = choose_range(statistics(values), method)
        assert min(*values, 0) <= low <= 0 <= high <= max(*values, 0)
        if method in ("minmax", "moving_average", "percentile"):
            assert (low, high) == (min(*values, 0), max(*values, 0))

    def test_the_same_data_gives_the_same_range(self):
        for method in METHODS:
            first, second = (choose_range(statistics(normal(3000)), method) for _ in range(2))
            assert first == second


@pytest.fixture
def net():
    """A small float model, the names of its tensors, and images."""
    build = Build((1, 6, 5, 3))
    conv = build.conv(build.image, 4, act="RELU")
    end = build.conv(build.add(build.depthwise(conv), conv), 2, (1, 1))
    content = build.finish(end)
    return content, np.random.default_rng(1).normal(2, 1, (5, 6, 5, 3)).astype(np.float32)


def all_values(content, images):
    """Tensor name to its values for every image."""
    graph = Graph(content)
    graph.outputs = [tensor for tensor in graph.tensors() if not tensor.is_constant]
    results = run(graph.to_bytes(), *(image[np.newaxis] for image in images))
    return {tensor.name: np.stack(values) for tensor, *values in zip(graph.outputs, *results, strict=True)}


class TestAroundZero:
    @pytest.mark.parametrize("limits", [(-1.0, 1.0), (-0.99, 0.995), (-2.0, 1.99)])
    def test_a_symmetric_range_gets_the_zero_point_0(self, limits):
        low, high = around_zero(limits)
        assert low <= limits[0] < limits[1] <= high
        assert high - low <= 1.01 * (limits[1] - limits[0])
        step = (high - low) / 255
        assert low + 128 * step == pytest.approx(0, abs=1e-9)

    @pytest.mark.parametrize("limits", [(-2.1, 2.6), (0.0, 1.0), (-1.0, 1.03), (-1.03, 1.0)])
    def test_any_other_stays(self, limits):
        assert around_zero(limits) == limits


class TestObserving:
    def test_values_are_those_of_every_tensor(self, net):
        content, images = net
        seen, values = observe(content, images, "percentile", True, silent), all_values(content, images)
        assert set(seen) == set(values) == {tensor.name for tensor in Graph(content).tensors()
                                            if not tensor.is_constant}  # fmt: skip
        for name, expected in values.items():
            got, channels = seen[name], tuple(range(expected.ndim - 1))
            np.testing.assert_allclose([got.low, got.high], [expected.min(), expected.max()], rtol=1e-6)
            np.testing.assert_allclose(got.channel_low, expected.min(channels), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(got.channel_high, expected.max(channels), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(got.channel_mean, expected.mean(channels), rtol=1e-5, atol=1e-6)
            assert got.histogram.counts.sum() == expected.size

    def test_moving_average_gives_the_next_samples_a_twentieth(self, net, monkeypatch):
        monkeypatch.setattr(calibration, "_GROUP", 2)
        content, images = net
        seen = observe(content, images, "moving_average", False, silent)
        for name, values in all_values(content, images).items():
            low, high = values[:2].min(), values[:2].max()
            for value in (values[2:4], values[4:]):
                low, high = 0.95 * low + 0.05 * value.min(), 0.95 * high + 0.05 * value.max()
            np.testing.assert_allclose(seen[name].average, (low, high), rtol=1e-5)

    def test_nothing_is_kept_that_is_not_asked_for(self, net):
        seen = observe(*net, "minmax", False, silent).values()
        assert all(what.channels is None and not what.histogram.counts.any() for what in seen)

    def test_memory_does_not_grow_with_the_samples(self):
        build = Build((1, 32, 32, 8))
        content = build.finish(build.conv(build.image, 8))
        images = np.broadcast_to(np.float32(np.linspace(0, 1, 8)), (80, 32, 32, 8))
        peaks = []
        for count in (4, 80):
            tracemalloc.start()
            observe(content, images[:count], "entropy", True, silent)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < peaks[0] + images[0].nbytes

    def test_progress(self, net):
        told = []
        observe(*net, "minmax", False, lambda *event: told.append(event))
        assert told == [("calibrating", done, 5) for done in range(5)]

    def test_again_gives_the_same(self, net):
        first, second = (observe(*net, "entropy", True, silent) for _ in range(2))
        for name, what in first.items():
            assert (what.low, what.high, what.average) == (
                second[name].low,
                second[name].high,
                second[name].average,
            )
            np.testing.assert_array_equal(what.histogram.counts, second[name].histogram.counts)
            np.testing.assert_array_equal(what.channels, second[name].channels)

    @pytest.mark.parametrize(("factor", "number"), [(3e38, 100.0), (-3e38, 100.0), (np.inf, 0.0)])
    def test_a_value_that_is_no_number_is_named(self, factor, number):
        build = Build((1, 2, 2, 1))
        bad = build.with_constant("MUL", build.image, values=[factor])
        content = build.finish(build.relu(bad))
        images = np.full((2, 2, 2, 1), 0.001 if np.isfinite(factor) else number, np.float32)
        images[1] = number
        sample = 1 if np.isfinite(factor) else 0
        with pytest.raises(
            ConversionError, match=f"'{bad.name}' becomes NaN or infinite for sample {sample}"
        ):
            observe(content, images, "mse", False, silent)


class TestSetting:
    @pytest.mark.parametrize("method", METHODS)
    def test_image_and_result_keep_all_that_occurred(self, method):
        build = Build((1, 64, 64, 1))
        content = build.finish(build.conv(build.conv(build.image, 4, (1, 1), act="RELU"), 2, (1, 1)))
        images = np.random.default_rng(0).normal(size=(40, 64, 64, 1)).astype(np.float32)
        images[3, 2, 2] = 50  # One pixel in 163,840.
        graph, seen = Graph(content), observe(content, images, method, False, silent)
        set_ranges(graph, seen, method)
        whole = {*graph.inputs, *graph.outputs}
        for tensor in graph.tensors():
            if tensor.is_constant:
                assert tensor.range is None
            elif tensor in whole:
                what = seen[tensor.name]
                assert tensor.range == (min(what.low, 0), max(what.high, 0))
            else:
                assert tensor.range == choose_range(seen[tensor.name], method)
                assert tensor.range[1] < seen[tensor.name].high or method in ("minmax", "mse")

    @pytest.mark.parametrize("behind", [("SOFTMAX",), ("RESHAPE",), ("RESHAPE", "SOFTMAX"), ("LOGISTIC",)])
    def test_the_logits_in_front_of_the_result_keep_all_that_occurred(self, behind):
        build = Build((1, 56, 56, 1))
        logits = end = build.conv(build.image, 4, (1, 1))
        for kind in behind:
            shape = (1, logits.shape[1] * logits.shape[2], 4) if kind == "RESHAPE" else end.shape
            fields = {"SOFTMAX": options("SoftmaxOptions", beta=1.0)}.get(kind)
            sizes = [constant(f"{kind}/shape", np.array(shape, np.int32))] if kind == "RESHAPE" else []
            end = build._add(kind, [end, *sizes], shape, fields)
        content = build.finish(end)
        images = np.random.default_rng(0).normal(size=(50, 56, 56, 1)).astype(np.float32)
        images[3, 2, 2] = 50
        graph, seen = Graph(content), observe(content, images, "percentile", False, silent)
        set_ranges(graph, seen, "percentile")
        what = seen[logits.name]
        kept = next(tensor for tensor in graph.tensors() if tensor.name == logits.name)
        assert kept.range == (min(what.low, 0), max(what.high, 0))
        assert choose_range(what, "percentile") != kept.range

    def test_an_unknown_method_is_named_with_the_nearest(self, net):
        with pytest.raises(ValueError, match=r"ranges='entropie' is not accepted. Did you mean 'entropy'"):
            set_ranges(Graph(net[0]), {}, "entropie")

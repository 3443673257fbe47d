"""Each rewrite leaves the function equal, or leaves the graph alone."""

from collections import Counter

import numpy as np
import pytest
from graph_builder import Build, partitions, quantized, random_graph, run

from converters.graph import Graph, Op, activation, options
from converters.rewrite import REWRITES, apply_rewrites, choose_rewrites
from converters.rewrite.normalization_into_stem import normalization_into_stem

FLOAT = [name for name, row in REWRITES.items() if row.stage != "last"]
SEEDS = 150


@pytest.fixture(autouse=True)
def clean_state():
    """No Keras here."""


def images(graph, count=2):
    rng = np.random.default_rng(7)
    return [rng.normal(0, 1, graph.inputs[0].shape).astype(np.float32) for _ in range(count)]


def assert_equal(before, after, relative=1e-5):
    graph = Graph(before)
    for old, new in zip(run(before, *images(graph)), run(after, *images(graph)), strict=True):
        for a, b in zip(old, new, strict=True):
            assert a.shape == b.shape
            # Values on the way are of size 1: a small difference of them has their rounding, 1e-7 each.
            assert np.abs(a - b).max() <= relative * max(np.ptp(a), np.abs(a).max(), 0.1)


def rewritten(content, *names):
    graph = Graph(content)
    counts = apply_rewrites(graph, {REWRITES[name].stage for name in names}, names)
    return graph.to_bytes(), counts


class TestProperties:
    @pytest.mark.parametrize("name", FLOAT)
    def test_each_alone_leaves_random_graphs_equal(self, name):
        applied = 0
        for seed in range(SEEDS):
            before = random_graph(seed)
            after, counts = rewritten(before, name)
            applied += bool(counts)
            if counts:
                assert_equal(before, after)
        # A property of graphs that nothing happens to is not worth much.
        assert applied >= 3, f"{name} applied to {applied} graphs"

    def test_all_together_leave_random_graphs_equal(self):
        applied = Counter()
        for seed in range(SEEDS, 2 * SEEDS):
            before = random_graph(seed)
            after, counts = rewritten(before, *FLOAT)
            applied.update(counts)
            assert_equal(before, after)
        assert set(applied) == set(FLOAT)

    @pytest.mark.parametrize("name", FLOAT)
    def test_a_second_time_changes_nothing(self, name):
        for seed in range(SEEDS // 2):
            once, _ = rewritten(random_graph(seed), name)
            assert rewritten(once, name) == (once, {})

    def test_graphs_survive_reading_and_writing(self):
        for seed in range(20):
            content = random_graph(seed)
            assert Graph(content).to_bytes() == content


class TestAveragePool:
    def pool_and_conv(self, **pool):
        build = Build((1, 9, 7, 16))
        return build, build.pool("AVERAGE", build.image, **pool)

    def test_moves_behind_a_narrower_conv_with_its_activation_behind_both(self):
        build, pooled = self.pool_and_conv()
        before = build.finish(build.conv(pooled, 4, (1, 1), act="RELU"))
        after, counts = rewritten(before, "average_pool_behind_conv")
        assert counts == {"average_pool_behind_conv": 1}
        conv, pool = Graph(after).ops
        assert (conv.kind, pool.kind) == ("CONV_2D", "AVERAGE_POOL_2D")
        assert conv.options.fusedActivationFunction == activation("NONE")
        assert pool.options.fusedActivationFunction == activation("RELU")
        assert_equal(before, after)

    @pytest.mark.parametrize("why", ["wider", "stride", "kernel", "shared", "activation"])
    def test_stays_where_it_would_not_be_equal_or_not_pay(self, why):
        pool = {"stride": 2} if why == "stride" else {"act": "RELU"} if why == "activation" else {}
        build, pooled = self.pool_and_conv(**pool)
        y = build.conv(pooled, 32 if why == "wider" else 4, (3, 3) if why == "kernel" else (1, 1))
        before = build.finish(y, pooled) if why == "shared" else build.finish(y)
        assert rewritten(before, "average_pool_behind_conv") == (before, {})

    def test_as_depthwise_divides_by_the_pixels_below_the_window(self):
        build, pooled = self.pool_and_conv()
        after, _ = rewritten(build.finish(pooled), "average_pool_as_depthwise")
        sums, product = Graph(after).ops
        assert (sums.kind, product.kind) == ("DEPTHWISE_CONV_2D", "MUL")
        factors = product.inputs[1].data[0, :, :, 0]
        assert factors[0, 0] == 2.25
        assert factors[0, 3] == 1.5
        assert factors[4, 3] == 1

    def test_stays_where_the_conv_would_run_on_far_more_pixels(self):
        build, pooled = self.pool_and_conv(kernel=(7, 7), pad="VALID")
        before = build.finish(build.conv(pooled, 8, (1, 1)))
        assert rewritten(before, "average_pool_behind_conv") == (before, {})

    def test_over_the_whole_image_is_a_mean(self):
        build, pooled = self.pool_and_conv(kernel=(9, 7), pad="VALID")
        before = build.finish(pooled)
        after, _ = rewritten(before, "average_pool_as_depthwise")
        assert [op.kind for op in Graph(after).ops] == ["MEAN"]
        assert_equal(before, after)

    def test_stays_where_int8_has_no_exact_correction(self):
        build, pooled = self.pool_and_conv(kernel=(5, 5))
        before = build.finish(pooled)
        assert rewritten(before, "average_pool_as_depthwise") == (before, {})


class TestFloat:
    def test_a_stem_has_a_quarter_of_the_taps_and_no_padding_of_pixels(self):
        build = Build((1, 32, 32, 3))
        padded = build.pad(build.image, [(3, 3), (3, 3)])
        before = build.finish(build.conv(padded, 8, (7, 7), 2, "VALID", "RELU"))
        after, counts = rewritten(before, "stem_as_space_to_depth")
        assert counts == {"stem_as_space_to_depth": 1}
        kinds = [op.kind for op in Graph(after).ops]
        assert kinds == ["SPACE_TO_DEPTH", "PAD", "CONV_2D"]
        assert Graph(after).ops[2].inputs[1].shape == (8, 4, 4, 12)
        assert_equal(before, after)

    def test_a_batch_norm_between_convs_goes_into_the_first(self):
        build = Build((1, 8, 8, 3))
        x = build.conv(build.image, 6)
        x = build.with_constant("ADD", build.with_constant("MUL", x), "RELU")
        before = build.finish(build.conv(x, 4))
        after, counts = rewritten(before, "affine_into_conv")
        assert counts == {"affine_into_conv": 2}
        assert [op.kind for op in Graph(after).ops] == ["CONV_2D", "CONV_2D"]
        assert_equal(before, after)

    def test_an_offset_in_front_of_a_padded_conv_stays(self):
        build = Build((1, 8, 8, 3))
        before = build.finish(build.conv(build.with_constant("ADD", build.image), 4))
        assert rewritten(before, "affine_into_conv") == (before, {})

    def test_dead_channels_leave_their_constant_in_the_next_bias(self):
        build = Build((1, 8, 8, 3))
        x = build.conv(build.image, 6, act="RELU", zeros=(1, 4))
        before = build.finish(build.conv(x, 4, (1, 1)))
        after, counts = rewritten(before, "dead_channels")
        assert counts == {"dead_channels": 2}
        assert Graph(after).ops[0].output.shape == (1, 8, 8, 4)
        assert_equal(before, after)

    def test_a_constant_channel_under_padding_stays(self):
        build = Build((1, 8, 8, 3))
        x = build.conv(build.image, 6, zeros=(1,))
        before = build.finish(build.conv(x, 4, (3, 3)))
        assert rewritten(before, "dead_channels") == (before, {})

    def test_a_pad_in_front_of_a_max_pool_stays_where_numbers_may_be_negative(self):
        build = Build((1, 8, 8, 3))
        padded = build.pad(build.image, [(0, 1), (0, 1)])
        before = build.finish(build.pool("MAX", padded, (3, 3), 2, "VALID"))
        assert rewritten(before, "pad_into_max_pool") == (before, {})


class TestNormalization:
    MEAN, DEVIATION = np.array([103.9, 116.8, 123.7]), np.array([57.0, 58.0, 59.0])

    def check(self, build, y, where):
        before = build.finish(y)
        graph = Graph(before)
        assert normalization_into_stem(graph, self.MEAN, self.DEVIATION, reverse=True) == where
        raw = np.random.default_rng(3).integers(0, 256, build.image.shape).astype(np.float32)
        normalised = ((raw[..., ::-1] - self.MEAN) / self.DEVIATION).astype(np.float32)
        [[expected]], [[got]] = run(before, normalised), run(graph.to_bytes(), raw)
        assert np.abs(expected - got).max() <= 1e-5 * np.ptp(expected)

    def test_goes_into_a_first_conv_that_does_not_pad(self):
        build = Build((1, 9, 9, 3))
        self.check(build, build.conv(build.image, 8, (3, 3), 2, "VALID", "RELU"), "first convolution")

    def test_goes_in_front_of_one_that_pads(self):
        build = Build((1, 9, 9, 3))
        self.check(build, build.conv(build.image, 8, (3, 3), 2, "SAME", "RELU"), "1x1 convolution in front")


def int8_sum(scale=0.05, zero_point=-128):
    """relu(a + b), where the sum is a result, too; all in int8."""
    build = Build((1, 6, 6, 8))
    other = build.pool("MAX", build.image, (2, 2))
    total = build.add(build.image, other)
    positive = build.relu(total)
    quantized(build.image, 0.05, 3)
    quantized(other, 0.05, 3)
    quantized(total, 0.11, -10)
    quantized(positive, scale, zero_point)
    for op in build.graph.ops:
        op.version = 2
    return build.finish(positive, total)


def steps_apart(before, after, delegate=True):
    graph = Graph(before)
    rng = np.random.default_rng(0)
    data = [rng.integers(-128, 128, graph.inputs[0].shape).astype(np.int8) for _ in range(3)]
    pairs = zip(run(before, *data, delegate=delegate), run(after, *data, delegate=delegate), strict=True)
    return max(np.abs(a.astype(int) - b).max() for old, new in pairs for a, b in zip(old, new, strict=True))


class TestInt8:
    def test_relu_of_a_shared_sum_becomes_a_second_sum(self):
        before = int8_sum()
        after, counts = rewritten(before, "relu_into_add")
        assert counts == {"relu_into_add": 1}
        assert (partitions(before), partitions(after)) == (1, 1)
        assert {op.kind for op in Graph(after).ops} == {"MAX_POOL_2D", "ADD"}
        # The sum is rounded once here, and twice where RELU has another scale.
        assert steps_apart(before, after) <= 1

    def test_relu_of_a_sum_on_the_same_scale_keeps_every_bit(self):
        before = int8_sum(scale=0.11, zero_point=-10)
        after, _ = rewritten(before, "relu_into_add")
        assert steps_apart(before, after) == 0

    def test_relu_becomes_a_conversion(self):
        before = int8_sum()
        after, counts = rewritten(before, "relu_as_quantize")
        assert counts == {"relu_as_quantize": 1}
        assert steps_apart(before, after, delegate=False) == 0
        assert steps_apart(before, after) <= 1  # XNNPACK rounds ties its own way.

    def test_relu_whose_scale_has_negative_numbers_stays(self):
        before = int8_sum(zero_point=-100)
        assert rewritten(before, "relu_as_quantize") == (before, {})

    def test_a_pool_of_single_pixels_becomes_a_conv_and_keeps_every_bit(self):
        build = Build((1, 7, 8, 5))
        y = build.pool("MAX", build.image, (1, 1), 2, "VALID")
        quantized(build.image, 0.05, 3)
        quantized(y, 0.05, 3)
        before = build.finish(y)
        after, counts = rewritten(before, "strided_pool_as_depthwise")
        assert counts == {"strided_pool_as_depthwise": 1}
        assert (partitions(before), partitions(after)) == (0, 1)
        assert steps_apart(before, after) == 0

    def test_roots_go_to_float_with_the_constant_below_them(self):
        build = Build((1, 4, 4, 8))
        total = build.with_constant("ADD", build.image, values=[1e-3])
        root = build._add("RSQRT", [total], total.shape)
        after = build.add(root, root)
        quantized(build.image, 0.05, -128)
        quantized(total, 0.05, -128)
        quantized(root, 0.13, -128)
        quantized(after, 0.26, -128)
        epsilon = quantized(build.graph.ops[0].inputs[1], 1e-3 / 255, -128)
        epsilon.data = np.array([127], np.int8)
        for op in build.graph.ops:
            op.version = 2
        before = build.finish(after)
        content, counts = rewritten(before, "roots_in_float")
        assert counts == {"roots_in_float": 1}
        assert partitions(content) == 1
        kinds = [op.kind for op in Graph(content).ops]
        assert kinds == ["DEQUANTIZE", "ADD", "RSQRT", "QUANTIZE", "ADD"]
        codes = np.arange(-128, 0, dtype=np.int8).reshape(build.image.shape)
        [[got]] = run(content, codes)
        wanted = 1 / np.sqrt((codes + 128.0) * 0.05 + 1e-3)
        expected = np.clip(np.round(wanted / 0.13), 0, 255) * 2
        assert np.abs((got + 128.0) * 2 - expected).max() <= 2

    def test_so_it_does_in_float(self):
        build = Build((1, 7, 8, 5))
        before = build.finish(build.pool("MAX", build.image, (1, 1), 2, "VALID"))
        after, counts = rewritten(before, "strided_pool_as_depthwise")
        assert counts == {"strided_pool_as_depthwise": 1}
        assert (partitions(before), partitions(after)) == (0, 1)
        image = np.random.default_rng(0).normal(size=(1, 7, 8, 5)).astype(np.float32)
        np.testing.assert_array_equal(run(before, image), run(after, image))

    def test_border_factors_become_exact(self):
        build = Build((1, 5, 5, 4))
        y = build.pool("AVERAGE", build.image)
        graph = Graph(rewritten(build.finish(y), "average_pool_as_depthwise")[0])
        product = graph.ops[1]
        factors = quantized(product.inputs[1], 2.25 / 255, -128)
        factors.data = np.clip(np.round(factors.data / (2.25 / 255)) - 128, -128, 127).astype(np.int8)
        for tensor in graph.tensors():
            if not tensor.is_constant:
                quantized(tensor, 0.05, 0)
        assert REWRITES["exact_border"].apply(graph) == 1
        stored = graph.ops[1].inputs[1]
        assert stored.quantization.scale.tolist() == [0.125]
        assert sorted(set(stored.data.reshape(-1).tolist())) == [8, 12, 18]

    def test_factors_that_no_border_has_stay(self):
        build = Build((1, 5, 5, 4))
        averaged = Graph(
            rewritten(build.finish(build.pool("AVERAGE", build.image)), "average_pool_as_depthwise")[0]
        )
        factors = quantized(averaged.ops[1].inputs[1], 1 / 8, 0)
        factors.data = np.full((1, 5, 5, 1), -160 // 2, np.int8)
        assert REWRITES["exact_border"].apply(averaged) == 0

    def test_factors_behind_other_weights_stay(self):
        build = Build((1, 5, 5, 4))
        y = build.depthwise(build.image)
        factors = build._constant(np.ones((1, 5, 5, 1)))
        build.graph.ops.append(Op("MUL", [y, factors], [build._tensor(y.shape)], options("MulOptions")))
        quantized(factors, 2.25 / 255, -128)
        factors.data = np.full((1, 5, 5, 1), -15, np.int8)
        assert REWRITES["exact_border"].apply(build.graph) == 0
        assert factors.quantization.scale[0] != np.float32(0.125)


class TestTable:
    def test_names(self):
        assert choose_rewrites("default") == list(REWRITES)
        assert choose_rewrites("none") == []
        assert choose_rewrites(["relu_into_add", "dead_channels"]) == ["dead_channels", "relu_into_add"]

    def test_default_and_none_are_the_whole_answer(self):
        assert choose_rewrites(["default"]) == list(REWRITES)
        assert choose_rewrites(["none"]) == []
        with pytest.raises(ValueError, match="rewrite='none'"):
            choose_rewrites(["dead_channels", "none"])
        with pytest.raises(TypeError, match="rewrite=None"):
            choose_rewrites(None)

    def test_what_only_helps_a_cpu_is_for_cpus(self):
        elsewhere = choose_rewrites("default", on_cpu=False)
        assert {REWRITES[name].cpu_only for name in elsewhere} == {False}
        assert "average_pool_as_depthwise" not in elsewhere
        assert "average_pool_behind_conv" in elsewhere
        assert choose_rewrites(["roots_in_float"], on_cpu=False) == ["roots_in_float"]

    def test_an_unknown_name_is_named_with_the_nearest(self):
        with pytest.raises(ValueError, match=r"relu_in_add.*relu_into_add"):
            choose_rewrites("relu_in_add")

    def test_every_stage_is_asked_for_by_name_alone(self):
        graph = Graph(int8_sum())
        assert apply_rewrites(graph, ["float", "before int8"], REWRITES) == {}

    def test_a_misspelt_option_is_an_error(self):
        with pytest.raises(AttributeError, match="no such_field"):
            options("AddOptions", such_field=1)

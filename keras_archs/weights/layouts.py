"""How the files of other packages name our layers: rules by family, as data.

A layout turns the name of a layer into the name of a module ("layer1.0.conv2") or a scope
("block1/unit_1/bottleneck_v1/conv2") of the file. A rule is a pattern of our name and a template of theirs.
In the template `{1}` stands for the first group, `{1-1}` and `{1+1}` for its number less or plus one, and
`{1=a?b:c}` for b if the group is a, else for c.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache

Layout = Callable[[str], str | None]
Rules = Iterable[tuple[str, str]]
CLASSIFIER = "predictions"  # the layer that gives the classes, in every model of ours
FIELD = re.compile(r"\{(\d)(?:([+-]\d)|=([^?]*)\?([^:]*):([^}]*))?\}")


def layout(rules: Rules) -> Layout:
    """Makes a layout of rules: the first whose pattern matches the whole name counts."""
    rules = tuple(rules)

    @cache
    def patterns() -> list[tuple[re.Pattern[str], str]]:
        # Compiled when a file is read, not when the package is imported: there are hundreds.
        return [(re.compile(pattern), template) for pattern, template in rules]

    def name(layer: str) -> str | None:
        for pattern, template in patterns():
            match = pattern.fullmatch(layer)
            if match:
                return _filled(template, match)
        return None

    return name


def _filled(template: str, match: re.Match[str]) -> str:
    def value(field: re.Match[str]) -> str:
        group, offset, wanted, same, other = field.groups()
        text = match[int(group)] or ""
        if offset:
            return str(int(text) + int(offset))
        return text if wanted is None else same if text == wanted else other

    return FIELD.sub(value, template)


# PyTorch: torchvision and timm.
BLOCK = r"conv(\d+)_block(\d+)"
_RESNET_V1 = (
    (r"conv1_(conv|bn)", "{1}1"),
    (r"conv1_1_(conv|bn)", "conv1.{1=conv?0:1}"),
    (r"conv1_2_(conv|bn)", "conv1.{1=conv?3:4}"),
    (r"conv1_3_conv", "conv1.6"),
    (r"conv1_3_bn", "bn1"),
    (r"pool1_(conv|bn)", "maxpool.{1=conv?0:1}"),
    (BLOCK + r"_([1-3])_(conv|bn)", "layer{1-1}.{2-1}.{4}{3}"),
    (BLOCK + r"_se_(reduce|expand)", "layer{1-1}.{2-1}.se.fc{3=reduce?1:2}"),
    (BLOCK + r"_eca", "layer{1-1}.{2-1}.se.conv"),
    (r"predictions", "fc"),
)
_DOWNSAMPLE = (BLOCK + r"_0_(conv|bn)", "layer{1-1}.{2-1}.downsample.{3=conv?0:1}")
_DOWNSAMPLE_POOLED = (BLOCK + r"_0_(conv|bn)", "layer{1-1}.{2-1}.downsample.{3=conv?1:2}")
TORCH_RESNET_V1 = layout((*_RESNET_V1, _DOWNSAMPLE))
TORCH_RESNET_V1_POOLED = layout((*_RESNET_V1, _DOWNSAMPLE_POOLED))

TORCH_RESNET_PREACT = layout(
    (
        (r"conv1_conv", "stem.conv"),
        (r"conv1_([1-3])_(conv|bn)", "stem.{2=conv?conv:norm}{1}"),
        (BLOCK + r"_preact_bn", "stages.{1-2}.blocks.{2-1}.norm1"),
        (BLOCK + r"_0_conv", "stages.{1-2}.blocks.{2-1}.downsample.conv"),
        (BLOCK + r"_(\d)_conv", "stages.{1-2}.blocks.{2-1}.conv{3}"),
        (BLOCK + r"_(\d)_bn", "stages.{1-2}.blocks.{2-1}.norm{3+1}"),
        (r"post_bn", "norm"),
        (r"predictions", "head.fc"),
    )
)

TORCH_GOOGLENET_NAMES = layout(
    (
        (r"conv(\d)_(conv|bn)", "conv{1}.{2}"),
        (r"mixed(\d[a-e])_b0_1_(conv|bn)", "inception{1}.branch1.{2}"),
        (r"mixed(\d[a-e])_b([12])_(\d)_(conv|bn)", "inception{1}.branch{2+1}.{3-1}.{4}"),
        (r"mixed(\d[a-e])_b3_2_(conv|bn)", "inception{1}.branch4.1.{2}"),
        (r"aux(\d)_conv_(conv|bn)", "aux{1}.conv.{2}"),
        (r"aux(\d)_fc1", "aux{1}.fc1"),
        (r"aux(\d)", "aux{1}.fc2"),
        (r"predictions", "fc"),
    )
)


def _nested(modules: Rules, kinds: Mapping[str, Rules]) -> list[tuple[str, str]]:
    """Rules of modules that share the names of their branches: (ours, "theirs kind") and the kind's rules."""
    rules = []
    for ours, theirs in modules:
        name, kind = theirs.split()
        rules += [(f"{ours}_{branch}_(conv|bn)", f"{name}.{path}") for branch, path in kinds[kind]]
    return rules


_V3_STEM = ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")
_V3_POOLED = (r"b0_1", "branch1x1.{1}"), (r"b3_2", "branch_pool.{1}")
_V3_KINDS = {
    "A": (*_V3_POOLED, (r"b1_(\d)", "branch5x5_{1}.{2}"), (r"b2_(\d)", "branch3x3dbl_{1}.{2}")),
    "RA": ((r"b0_1", "branch3x3.{1}"), (r"b1_(\d)", "branch3x3dbl_{1}.{2}")),
    "B": (*_V3_POOLED, (r"b1_(\d)", "branch7x7_{1}.{2}"), (r"b2_(\d)", "branch7x7dbl_{1}.{2}")),
    "RB": ((r"b0_(\d)", "branch3x3_{1}.{2}"), (r"b1_(\d)", "branch7x7x3_{1}.{2}")),
    "C": (
        *_V3_POOLED,
        (r"b1_1", "branch3x3_1.{1}"),
        (r"b2_([12])", "branch3x3dbl_{1}.{2}"),
        (r"b2_3_b([01])_1", "branch3x3dbl_3{1=0?a:b}.{2}"),
    ),
    "fork": ((r"b([01])_1", "branch3x3_2{1=0?a:b}.{2}"),),
}
_V3_MODULES = (
    *((f"mixed{i}", f"Mixed_5{'bcd'[i]} A") for i in range(3)),
    ("mixed3", "Mixed_6a RA"),
    *((f"mixed{i + 4}", f"Mixed_6{'bcde'[i]} B") for i in range(4)),
    ("mixed8", "Mixed_7a RB"),
    # keras.applications names the forks of modules 9 and 10 mixed9_0 and mixed9_1.
    ("mixed9_0", "Mixed_7b fork"),
    ("mixed9_1", "Mixed_7c fork"),
    ("mixed9", "Mixed_7b C"),
    ("mixed10", "Mixed_7c C"),
)
TORCH_INCEPTION_V3_NAMES = layout(
    (
        *((f"conv{i}_(conv|bn)", f"Conv2d_{name}.{{1}}") for i, name in enumerate(_V3_STEM, 1)),
        *_nested(_V3_MODULES, _V3_KINDS),
        (r"aux_conv([12])_(conv|bn)", "AuxLogits.conv{1-1}.{2}"),
        (r"aux", "AuxLogits.fc"),
        (r"predictions", "fc"),
    )
)

_V4_LONG = (r"b0_1", "branch0.{1}"), (r"b3_2", "branch3.1.{1}"), (r"b([12])_(\d)", "branch{1}.{2-1}.{3}")
_V4_KINDS = {
    "conv": ((r"b[01]_1", "conv.{1}"),),
    "sequences": ((r"b([01])_(\d)", "branch{1}.{2-1}.{3}"),),
    "AB": _V4_LONG,
    "RA": ((r"b0_1", "branch0.{1}"), (r"b1_(\d)", "branch1.{1-1}.{2}")),
    "C": (
        *_V4_LONG[:2],
        (r"b1_1", "branch1_0.{1}"),
        (r"b1_2_b([01])_1", "branch1_1{1=0?a:b}.{2}"),
        (r"b2_([123])", "branch2_{1-1}.{2}"),
        (r"b2_4_b([01])_1", "branch2_3{1=0?a:b}.{2}"),
    ),
}
_V4_MODULES = ("conv", "sequences", "conv", *("AB",) * 4, "RA", *("AB",) * 7, "sequences", *("C",) * 3)
TORCH_INCEPTION_V4_NAMES = layout(
    (
        (r"conv(\d)_(conv|bn)", "features.{1-1}.{2}"),
        *_nested(
            ((f"mixed{i}", f"features.{i + 3} {kind}") for i, kind in enumerate(_V4_MODULES)), _V4_KINDS
        ),
        (r"predictions", "last_linear"),
    )
)

_IR_STEM = ("1a", "2a", "2b", "3b", "4a")
_IR_BLOCKS = (("block35", "repeat"), ("block17", "repeat_1"), ("block8", "repeat_2"))
TORCH_INCEPTION_RESNET_V2 = layout(
    (
        *((f"conv{i}(_bn)?", f"conv2d_{name}.{{1=_bn?bn:conv}}") for i, name in enumerate(_IR_STEM, 1)),
        (r"conv_7b(_bn)?", "conv2d_7b.{1=_bn?bn:conv}"),
        (r"(mixed_5b|mixed_6a)_b0_1(_bn)?", "{1}.branch0.{2=_bn?bn:conv}"),
        (r"(mixed_..)_b(\d)_(\d)(_bn)?", "{1}.branch{2}.{3-1}.{4=_bn?bn:conv}"),
        # The tenth block of the last stage stands alone in the file.
        (r"block8_10_mixed_b0_1(_bn)?", "block8.branch0.{1=_bn?bn:conv}"),
        (r"block8_10_mixed_b1_(\d)(_bn)?", "block8.branch1.{1-1}.{2=_bn?bn:conv}"),
        (r"block8_10_conv", "block8.conv2d"),
        *((rf"{o}_(\d+)_mixed_b0_1(_bn)?", f"{t}.{{1-1}}.branch0.{{2=_bn?bn:conv}}") for o, t in _IR_BLOCKS),
        *(
            (
                rf"{o}_(\d+)_mixed_b([12])_(\d)(_bn)?",
                f"{t}.{{1-1}}.branch{{2}}.{{3-1}}.{{4=_bn?bn:conv}}",
            )
            for o, t in _IR_BLOCKS
        ),
        *((rf"{o}_(\d+)_conv", f"{t}.{{1-1}}.conv2d") for o, t in _IR_BLOCKS),
        (r"predictions", "classif"),
    )
)

TORCH_XCEPTION_NAMES = layout(
    (
        (r"block1_conv(\d)(_bn)?", "{2=_bn?bn:conv}{1}"),
        (r"block(\d+)_0(_bn)?", "block{1-1}.skip{2=_bn?bn:}"),
        # timm counts ReLUs, too: the first block starts without one.
        (r"block2_sepconv1(_bn)?", "block1.rep.{1=_bn?1:0}"),
        (r"block2_sepconv2(_bn)?", "block1.rep.{1=_bn?4:3}"),
        (r"block14_sepconv1(_bn)?", "{1=_bn?bn:conv}3"),
        (r"block14_sepconv2(_bn)?", "{1=_bn?bn:conv}4"),
        (r"block(\d+)_sepconv1(_bn)?", "block{1-1}.rep.{2=_bn?2:1}"),
        (r"block(\d+)_sepconv2(_bn)?", "block{1-1}.rep.{2=_bn?5:4}"),
        (r"block(\d+)_sepconv3(_bn)?", "block{1-1}.rep.{2=_bn?8:7}"),
        (r"predictions", "fc"),
    )
)
_ALIGNED = (
    (r"block1_conv(\d)(_bn)?", "stem.{1-1}.{2=_bn?bn:conv}"),
    (r"block(\d+)_0(_bn)?", "blocks.{1-2}.shortcut.{2=_bn?bn:conv}"),
    (r"block(\d+)_preact_bn", "blocks.{1-2}.norm"),
    (r"block(\d+)_sepconv(\d)_(dw|pw)(_bn)?", "blocks.{1-2}.stack.conv{2}.{4=_bn?bn:conv}_{3}"),
    (r"block(\d+)_sepconv(\d)_bn", "blocks.{1-2}.stack.conv{2}.norm"),
    (r"predictions", "head.fc"),
)
TORCH_XCEPTION_ALIGNED = layout(_ALIGNED)
# 41p and 65p: a convolution that no normalization follows is no module of two.
TORCH_XCEPTION_PREACT = layout(
    ((r"block1_conv2", "stem.1"), (r"block(\d+)_0", "blocks.{1-2}.shortcut"), *_ALIGNED)
)


def vgg_layouts(depths: tuple[int, ...], normalized: bool) -> tuple[Layout, ...]:
    """The layouts of torchvision and of timm, whose classifiers differ in name.

    Args:
        depths: Convolutions in each block; ReLUs, norms and pools count in the files' numbering, too.
        normalized: Whether batch normalization follows each convolution.

    Returns:
        Two layouts.
    """
    rules, index = [], 0
    for i, depth in enumerate(depths, 1):
        for k in range(1, depth + 1):
            rules.append((f"block{i}_conv{k}", f"features.{index}"))
            rules.append((f"block{i}_conv{k}_bn", f"features.{index + 1}"))
            index += 3 if normalized else 2
        index += 1
    torchvision = (("fc1", "classifier.0"), ("fc2", "classifier.3"), ("predictions", "classifier.6"))
    timm = (("fc1", "pre_logits.fc1"), ("fc2", "pre_logits.fc2"), ("predictions", "head.fc"))
    return layout((*rules, *torchvision)), layout((*rules, *timm))


# TF-slim: scopes below the network's own.
_SLIM_UNIT = "block{1-1}/unit_{2}/bottleneck_v"
SLIM_RESNET_V1 = layout(
    (
        (r"conv1_(conv|bn)", "conv1{1=bn?/BatchNorm:}"),
        (BLOCK + r"_0_(conv|bn)", _SLIM_UNIT + "1/shortcut{3=bn?/BatchNorm:}"),
        (BLOCK + r"_(\d)_(conv|bn)", _SLIM_UNIT + "1/conv{3}{4=bn?/BatchNorm:}"),
        (r"predictions", "logits"),
    )
)
SLIM_RESNET_PREACT = layout(
    (
        (r"conv1_conv", "conv1"),
        (BLOCK + r"_preact_bn", _SLIM_UNIT + "2/preact"),
        (BLOCK + r"_0_conv", _SLIM_UNIT + "2/shortcut"),
        (BLOCK + r"_(\d)_(conv|bn)", _SLIM_UNIT + "2/conv{3}{4=bn?/BatchNorm:}"),
        (r"post_bn", "postnorm"),
        (r"predictions", "logits"),
    )
)
SLIM_VGG_NAMES = layout(
    (
        (r"block(\d)_conv(\d)", "conv{1}/conv{1}_{2}"),
        (r"fc1", "fc6"),
        (r"fc2", "fc7"),
        (r"predictions", "fc8"),
    )
)


def _scopes(
    modules: dict[str, str], branches: str, unit: str = "_(conv|bn)", bn: str = "bn"
) -> list[tuple[str, str]]:
    """Rules of modules with equal branches, written as slim's scopes: branches by "|", "-" for a pool."""
    return [
        (f"{ours}_b{k}_{i}{unit}", f"{theirs}/Branch_{k}/Conv2d_{scope}{{1={bn}?/BatchNorm:}}")
        for ours, theirs in modules.items()
        for k, branch in enumerate(branches.split("|"))
        for i, scope in enumerate(branch.split(), 1)
        if scope != "-"
    ]


def _stem(*scopes: str, unit: str = "_(conv|bn)", bn: str = "bn") -> list[tuple[str, str]]:
    return [(f"conv{i}{unit}", f"Conv2d_{scope}{{1={bn}?/BatchNorm:}}") for i, scope in enumerate(scopes, 1)]


_V1 = "0a_1x1 | 0a_1x1 0b_3x3 | 0a_1x1 0b_3x3 | - 0b_1x1"
SLIM_INCEPTION_V1 = layout(
    (
        *_stem("1a_7x7", "2b_1x1", "2c_3x3"),
        # A slip in slim: this one convolution has the name of the position before.
        (r"mixed5a_b2_2_(conv|bn)", "Mixed_5b/Branch_2/Conv2d_0a_3x3{1=bn?/BatchNorm:}"),
        *_scopes({f"mixed3{x}": f"Mixed_3{y}" for x, y in zip("ab", "bc", strict=True)}, _V1),
        *_scopes({f"mixed4{x}": f"Mixed_4{y}" for x, y in zip("abcde", "bcdef", strict=True)}, _V1),
        *_scopes({f"mixed5{x}": f"Mixed_5{y}" for x, y in zip("ab", "bc", strict=True)}, _V1),
        (r"predictions", "Logits/Conv2d_0c_1x1"),
    )
)
SLIM_INCEPTION_V2 = layout(
    (
        *_stem("1a_7x7", "2b_1x1", "2c_3x3"),
        *_scopes(
            {f"mixed{name}": f"Mixed_{name}" for name in ("4a", "5a")},
            "0a_1x1 1a_3x3 | 0a_1x1 0b_3x3 1a_3x3",
        ),
        *_scopes(
            {f"mixed{name}": f"Mixed_{name}" for name in "3b 3c 4b 4c 4d 4e 5b 5c".split()},
            "0a_1x1 | 0a_1x1 0b_3x3 | 0a_1x1 0b_3x3 0c_3x3 | - 0b_1x1",
        ),
        (r"predictions", "Logits/Conv2d_1c_1x1"),
    )
)
_SLIM_B = "0a_1x1 | 0a_1x1 0b_1x7 0c_7x1 | 0a_1x1 0b_7x1 0c_1x7 0d_7x1 0e_1x7 | - 0b_1x1"
SLIM_INCEPTION_V3 = layout(
    (
        *_stem("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3"),
        # Slips in slim: two scopes of the second module, the kernels in the names of the reduction.
        (r"mixed1_b1_1_(conv|bn)", "Mixed_5c/Branch_1/Conv2d_0b_1x1{1=bn?/BatchNorm:}"),
        (r"mixed1_b1_2_(conv|bn)", "Mixed_5c/Branch_1/Conv_1_0c_5x5{1=bn?/BatchNorm:}"),
        *_scopes(
            {f"mixed{i}": f"Mixed_5{'bcd'[i]}" for i in range(3)},
            "0a_1x1 | 0a_1x1 0b_5x5 | 0a_1x1 0b_3x3 0c_3x3 | - 0b_1x1",
        ),
        *_scopes({"mixed3": "Mixed_6a"}, "1a_1x1 | 0a_1x1 0b_3x3 1a_1x1"),
        *_scopes({f"mixed{i + 4}": f"Mixed_6{'bcde'[i]}" for i in range(4)}, _SLIM_B),
        *_scopes({"mixed8": "Mixed_7a"}, "0a_1x1 1a_3x3 | 0a_1x1 0b_1x7 0c_7x1 1a_3x3"),
        *_scopes({"mixed9": "Mixed_7b", "mixed10": "Mixed_7c"}, "0a_1x1 | 0a_1x1 | 0a_1x1 0b_3x3 | - 0b_1x1"),
        *(
            (f"{ours}_b{k}_1_(conv|bn)", f"Mixed_7{theirs}{{1=bn?/BatchNorm:}}")
            for ours, k, theirs in (
                ("mixed9_0", 0, "b/Branch_1/Conv2d_0b_1x3"),
                ("mixed9_0", 1, "b/Branch_1/Conv2d_0b_3x1"),
                ("mixed9_1", 0, "c/Branch_1/Conv2d_0b_1x3"),
                ("mixed9_1", 1, "c/Branch_1/Conv2d_0c_3x1"),
                ("mixed9_b2_3", 0, "b/Branch_2/Conv2d_0c_1x3"),
                ("mixed9_b2_3", 1, "b/Branch_2/Conv2d_0d_3x1"),
                ("mixed10_b2_3", 0, "c/Branch_2/Conv2d_0c_1x3"),
                ("mixed10_b2_3", 1, "c/Branch_2/Conv2d_0d_3x1"),
            )
        ),
        (r"aux_conv1_(conv|bn)", "AuxLogits/Conv2d_1b_1x1{1=bn?/BatchNorm:}"),
        (r"aux_conv2_(conv|bn)", "AuxLogits/Conv2d_2a_5x5{1=bn?/BatchNorm:}"),
        (r"aux", "AuxLogits/Conv2d_2b_1x1"),
        (r"predictions", "Logits/Conv2d_1c_1x1"),
    )
)
SLIM_INCEPTION_V4 = layout(
    (
        *_stem("1a_3x3", "2a_3x3", "2b_3x3"),
        *_scopes({"mixed0": "Mixed_3a"}, "- | 0a_3x3"),
        *_scopes({"mixed1": "Mixed_4a"}, "0a_1x1 1a_3x3 | 0a_1x1 0b_1x7 0c_7x1 1a_3x3"),
        *_scopes({"mixed2": "Mixed_5a"}, "1a_3x3 | -"),
        *_scopes(
            {f"mixed{i + 3}": f"Mixed_5{'bcde'[i]}" for i in range(4)},
            "0a_1x1 | 0a_1x1 0b_3x3 | 0a_1x1 0b_3x3 0c_3x3 | - 0b_1x1",
        ),
        *_scopes({"mixed7": "Mixed_6a"}, "1a_3x3 | 0a_1x1 0b_3x3 1a_3x3"),
        *_scopes({f"mixed{i + 8}": f"Mixed_6{'bcdefgh'[i]}" for i in range(7)}, _SLIM_B),
        *_scopes({"mixed15": "Mixed_7a"}, "0a_1x1 1a_3x3 | 0a_1x1 0b_1x7 0c_7x1 1a_3x3"),
        *(
            rule
            for i in range(3)
            for rule in (
                *_scopes(
                    {f"mixed{i + 16}": f"Mixed_7{'bcd'[i]}"},
                    "0a_1x1 | 0a_1x1 | 0a_1x1 0b_3x1 0c_1x3 | - 0b_1x1",
                ),
                (
                    f"mixed{i + 16}_b1_2_b([01])_1_(conv|bn)",
                    f"Mixed_7{'bcd'[i]}/Branch_1/Conv2d_0{{1=0?b_1x3:c_3x1}}{{2=bn?/BatchNorm:}}",
                ),
                (
                    f"mixed{i + 16}_b2_4_b([01])_1_(conv|bn)",
                    f"Mixed_7{'bcd'[i]}/Branch_2/Conv2d_0{{1=0?d_1x3:e_3x1}}{{2=bn?/BatchNorm:}}",
                ),
            )
        ),
        (r"aux_conv1_(conv|bn)", "AuxLogits/Conv2d_1b_1x1{1=bn?/BatchNorm:}"),
        (r"aux_conv2_(conv|bn)", "AuxLogits/Conv2d_2a{1=bn?/BatchNorm:}"),
        (r"aux", "AuxLogits/Aux_logits"),
        (r"predictions", "Logits/Logits"),
    )
)


def _slim_inception_resnet(counts: tuple[int, int, int], blocks: dict[str, str]) -> list[tuple[str, str]]:
    """Rules of Inception-ResNet: the residual blocks stand in scopes Repeat, Repeat_1, Repeat_2, Block8."""
    rules = []
    for (name, branches), scope, count in zip(
        blocks.items(), ("Repeat", "Repeat_1", "Repeat_2"), counts, strict=True
    ):
        for i in range(1, count + 1):
            alone = name == "block8" and i == count
            path = "Block8" if alone else f"{scope}/{name}_{i}"
            rules += _scopes({f"{name}_{i}_mixed": path}, branches, "(_bn)?", "_bn")
            rules.append((f"{name}_{i}_conv", f"{path}/Conv2d_1x1"))
    return rules


_IR_COMMON = (
    *_scopes({"mixed_6a": "Mixed_6a"}, "1a_3x3 | 0a_1x1 0b_3x3 1a_3x3", "(_bn)?", "_bn"),
    *_scopes(
        {"mixed_7a": "Mixed_7a"}, "0a_1x1 1a_3x3 | 0a_1x1 1a_3x3 | 0a_1x1 0b_3x3 1a_3x3", "(_bn)?", "_bn"
    ),
    (r"aux_conv1(_bn)?", "AuxLogits/Conv2d_1b_1x1{1=_bn?/BatchNorm:}"),
    (r"aux_conv2(_bn)?", "AuxLogits/Conv2d_2a_5x5{1=_bn?/BatchNorm:}"),
    (r"aux", "AuxLogits/Logits"),
)
_IR_BRANCHES = {
    "block35": "1x1 | 0a_1x1 0b_3x3 | 0a_1x1 0b_3x3 0c_3x3",
    "block17": "1x1 | 0a_1x1 0b_1x7 0c_7x1",
    "block8": "1x1 | 0a_1x1 0b_1x3 0c_3x1",
}
SLIM_INCEPTION_RESNET_V1 = layout(
    (
        *_stem("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3", "4b_3x3", unit="(_bn)?", bn="_bn"),
        *_slim_inception_resnet((5, 10, 6), _IR_BRANCHES),
        *_IR_COMMON,
        # facenet's embedding stands between features and classes: no layer of ours, and none to miss.
        (r"fc1", "Bottleneck"),
        (r"predictions", "Logits"),
    )
)
SLIM_INCEPTION_RESNET_V2 = layout(
    (
        *_stem("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3", unit="(_bn)?", bn="_bn"),
        *_scopes(
            {"mixed_5b": "Mixed_5b"},
            "1x1 | 0a_1x1 0b_5x5 | 0a_1x1 0b_3x3 0c_3x3 | - 0b_1x1",
            "(_bn)?",
            "_bn",
        ),
        *_slim_inception_resnet((10, 20, 10), _IR_BRANCHES),
        *_IR_COMMON,
        (r"conv_7b(_bn)?", "Conv2d_7b_1x1{1=_bn?/BatchNorm:}"),
        (r"predictions", "Logits/Logits"),
    )
)

"""From a graph of layers to what people draw: units in a row, blocks whose branches part and meet again."""

import itertools
import math
import operator
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from keras_archs.analysis.records import Extent, Layer

# Kinds of layers that are worth a box; the others belong to a neighbour.
DRAWN = frozenset(
    {"conv", "transposed", "depthwise", "separable", "dense", "upsample"}
    | {"max", "average", "blur", "global max", "global average"}
)


@dataclass(frozen=True)
class Element:
    """A unit (a layer with its padding, normalization, activation) or a block (branches that meet).

    Attributes:
        layers: All its layers, in order.
        mains: What it is drawn for: one layer, or a depthwise convolution and its pointwise one; of a block
            the layer in which its branches meet.
        branches: Of a block, one for each input of that layer; an empty one is the identity.
        tangled: Whether its branches share layers, so that `branches` can't say what they are.
    """

    layers: tuple[Layer, ...]
    mains: tuple[Layer, ...]
    branches: "tuple[Chain, ...]" = ()
    tangled: bool = False

    @property
    def main(self) -> Layer:
        """The layer that makes its output."""
        return self.mains[-1]

    @property
    def inside(self) -> tuple[Layer, ...]:
        """The layers of its branches."""
        return tuple(layer for branch in self.branches for element in branch for layer in element.layers)

    @property
    def name(self) -> str:
        """What the names of its layers have in common, or else the name of its main layer."""
        if self.branches:
            longest = max(self.branches, key=lambda branch: sum(len(element.layers) for element in branch))
            own = "" if _is_made_up(self.main.name, [self.main]) else self.main.name
            inside = _common_name([layer for element in longest for layer in element.layers])
            names = [_common_name([*self.inside, self.main]), own, inside]
        else:
            # conv, bn and relu may be called block1_2_conv, block1_2_bn and block1_out.
            names = [_common_name([self.main, other]) for other in self.layers if other != self.main]
            names.sort(key=len, reverse=True)
        return next(filter(None, names), self.main.name)


Chain = tuple[Element, ...]


def stages(layers: Sequence[Layer]) -> list[Chain]:
    """Elements in runs of equal stride, from the image (which is in none) to the output.

    Args:
        layers: Those of an `Analysis`: the first is the image, the last the output.

    Returns:
        The elements of each stage.
    """
    chain = _chain(layers, 0, len(layers) - 1)
    runs = itertools.groupby(_opened(chain, layers[0].stride), key=lambda element: element.main.stride)
    return [tuple(run) for _, run in runs]


def _opened(chain: Chain, stride: Extent | None) -> Iterator[Element]:
    """The elements, where a block that visits other strides inside (as a U-Net does) yields its parts."""
    for element in chain:
        visited = {layer.stride for layer in element.layers if layer.stride}
        if visited <= {stride, element.main.stride}:
            yield element
        elif element.tangled:
            area, pairs = 0.0, []
            for layer in element.layers:  # that of a gate, which has no stride, goes with the one before it
                area = math.prod(layer.stride) if layer.stride else area
                pairs.append((area, layer))
            pairs.sort(key=operator.itemgetter(0))
            for _, run in itertools.groupby(pairs, operator.itemgetter(0)):
                part = tuple(layer for _, layer in run)
                makers = [layer for layer in part if layer.kind in DRAWN | {"sum", "concat"}] or part
                yield Element(part, (makers[-1],), tangled=True)
        else:
            for branch in sorted(element.branches, key=len):
                yield from _opened(branch, stride)
            inside = set(element.inside)
            rest = tuple(layer for layer in element.layers if layer not in inside)
            yield replace(element, layers=rest, branches=())
        stride = element.main.stride


def _chain(layers: Sequence[Layer], start: int, end: int) -> Chain:
    """The elements after layer `start`, up to layer `end`; each is on every path between the two."""
    members = sorted(_between(layers, start, end))
    last_use = {source: member for member in members for source in layers[member].inputs}
    items: list[Layer | Element] = []
    open_until = last_use.get(start, start)
    for member in members:
        if open_until <= member:  # no path passes it by
            items.append(_item(layers, start, member))
            start = member
        open_until = max(open_until, last_use.get(member, member))
    return _units(items)


def _between(layers: Sequence[Layer], start: int, end: int) -> set[int]:
    """Positions of the layers after `start` that `end` needs, `end` among them."""
    needed = {end} if end > start else set()
    for position in range(end, start, -1):
        if position in needed:
            needed.update(source for source in layers[position].inputs if source > start)
    return needed


def _item(layers: Sequence[Layer], start: int, end: int) -> Layer | Element:
    """Layer `end`, or the block of everything between `start` and it."""
    end_layer = layers[end]
    if set(end_layer.inputs) == {start}:
        return end_layer
    inside = [_between(layers, start, source) for source in end_layer.inputs]
    members = set().union(*inside)
    inner = (*(layers[position] for position in sorted(members)), end_layer)
    if sum(map(len, inside)) > len(members):
        return Element(inner, (end_layer,), tangled=True)
    branches = tuple(_chain(layers, start, source) for source in end_layer.inputs)
    return Element(inner, (end_layer,), branches)


def _units(items: Iterable[Layer | Element]) -> Chain:
    """Gives each layer that is not drawn to a neighbour: padding to the next, others to the one before."""
    elements: list[Element] = []
    waiting: list[Layer] = []
    for item in items:
        inner = item.layers if isinstance(item, Element) else (item,)
        if not any(layer.kind in DRAWN for layer in inner):  # x * sigmoid(x) is one activation
            if elements and not inner[0].class_name.startswith("ZeroPadding"):
                elements[-1] = replace(elements[-1], layers=(*elements[-1].layers, *inner))
            else:
                waiting += inner
            continue
        element = item if isinstance(item, Element) else Element((item,), (item,))
        element = replace(element, layers=(*waiting, *element.layers))
        waiting = []
        before = [layer.kind for layer in elements[-1].mains] if elements else []
        if before == ["depthwise"] and _is_pointwise(element):
            depthwise = elements.pop()
            element = Element((*depthwise.layers, *element.layers), (*depthwise.mains, *element.mains))
        elements.append(element)
    if waiting and elements:
        elements[-1] = replace(elements[-1], layers=(*elements[-1].layers, *waiting))
    elif waiting:
        elements.append(Element(tuple(waiting), (waiting[-1],)))
    return tuple(elements)


def _is_pointwise(element: Element) -> bool:
    main = element.main
    return main.kind == "conv" and set(main.kernel or ()) == set(main.step or ()) == {1} and main.groups == 1


def _common_name(layers: Sequence[Layer]) -> str:
    """The words with which all names begin; empty if Keras made them up, or if they name a nested model."""
    words = zip(*(re.split("([_/])", layer.name) for layer in layers), strict=False)
    common = itertools.takewhile(lambda alike: len(set(alike)) == 1, words)
    name = "".join(alike[0] for alike in common).rstrip("_")
    return "" if name.endswith("/") or _is_made_up(name, layers) else name


def _is_made_up(name: str, layers: Iterable[Layer]) -> bool:
    """Whether Keras named one of the layers, by its class: conv2d, conv2d_1, batch_normalization."""
    word = re.sub(r"_\d+$", "", name.rpartition("/")[2]).replace("_", "")
    return word in {layer.class_name.lower() for layer in layers}

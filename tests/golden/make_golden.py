"""Makes the golden files: logits of timm's and torchvision's models, filled with the numbers of values.py.

    python tests/golden/make_golden.py                  # all
    python tests/golden/make_golden.py 'timm_resnet50*' # those whose file name matches

Needs torch, torchvision and timm (the extra `parity`); the tests that read the files do not.
"""

import argparse
import fnmatch
import importlib.metadata
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from values import image, parameter

FOLDER = Path(__file__).parent


def declare_operators() -> torch.library.Library | None:
    """Declares torchvision's compiled operators where they are missing or do not load.

    Importing torchvision registers shapes and gradients for them and fails without. No classifier runs one.

    Returns:
        What keeps the declarations alive; None if the compiled operators are there.
    """
    folder = Path(str(importlib.metadata.distribution("torchvision").locate_file("torchvision")))
    try:
        torch.ops.load_library(next(folder.glob("_C*")))
        return None
    except (StopIteration, OSError):
        library = torch.library.Library("torchvision", "DEF")
        text = (folder / "_meta_registrations.py").read_text()
        for name in sorted(set(re.findall(r"""(?:register_meta\(["']|torchvision::)(\w+)""", text))):
            library.define(f"{name}(Tensor x) -> Tensor")
        return library


OPERATORS = declare_operators()

import timm  # noqa: E402
import torchvision  # noqa: E402


@dataclass(frozen=True)
class Reference:
    """One golden file: which model, and the two sizes of image it sees."""

    source: str
    model: str
    even: int
    odd: int
    output_stride: int = 32

    @property
    def stem(self) -> str:
        """Name of the file without its suffix."""
        dilated = f"_os{self.output_stride}" if self.output_stride != 32 else ""
        return f"{self.source}_{self.model}{dilated}"


def references(source: str, even: int, odd: int, models: str, output_stride: int = 32) -> list[Reference]:
    """Rows of the table below: models that share everything but the name."""
    return [Reference(source, model, even, odd, output_stride) for model in models.split()]


# At one of the two sizes every strided layer with padding sees an even size, at the other an odd one. So do
# the inceptions' unpadded ones at 138 and 139; 299 is what those were trained at, and what their heads need.
REFERENCES = [
    *references("torchvision", 224, 225, "resnet50 googlenet vgg11 vgg13_bn vgg16"),
    *references("torchvision", 64, 65, "resnet18 resnext50_32x4d wide_resnet50_2"),
    *references("torchvision", 300, 299, "inception_v3"),
    *references("timm", 224, 225, "resnet50 vgg13 vgg16_bn vgg19 vgg19_bn"),
    *references("timm", 64, 65, """
        resnet10t resnet14t resnet18 resnet18d resnet26 resnet26d resnet26t resnet34 resnet34d
        resnet50c resnet50d resnet50s resnet50t resnet50_gn resnet101 resnet101c resnet101d resnet101s
        resnet152 resnet152c resnet152d resnet152s
        resnet200 resnet200d wide_resnet101_2
        resnext50_32x4d resnext50d_32x4d resnext101_32x4d resnext101_32x8d resnext101_64x4d
        seresnet18 seresnet34 seresnet50 seresnet50t seresnet101 seresnet152 seresnet152d
        seresnext26d_32x4d seresnext26t_32x4d seresnext50_32x4d seresnext101_32x4d senet154
        ecaresnet26t ecaresnet50d ecaresnet50t ecaresnet101d ecaresnetlight ecaresnext50t_32x4d
        ecaresnext26t_32x4d resnetblur101d resnetblur18 resnetblur50 resnetblur50d
        resnetaa34d resnetaa50 resnetaa50d resnetaa101d seresnetaa50d seresnextaa101d_32x8d
        resnetrs50 resnetrs101 resnetrs152 resnetrs200 resnetrs270 resnetrs350 resnetrs420
        resnetv2_18 resnetv2_18d resnetv2_34 resnetv2_34d resnetv2_50 resnetv2_50d resnetv2_50t
        resnetv2_101 resnetv2_101d resnetv2_152 resnetv2_152d resnetv2_50d_gn
        resnetv2_50x1_bit resnetv2_101x1_bit
    """),
    *references("timm", 64, 65, "resnet50 resnetv2_50", output_stride=8),
    *references("timm", 64, 65, "resnet50d resnetblur18 resnetaa50 seresnet50", output_stride=16),
    *references("timm", 300, 299, "inception_v3 inception_v4 legacy_xception"),
    *references("timm", 138, 139, "inception_resnet_v2"),
    *references("timm", 96, 97, "xception41 xception65 xception71 xception41p xception65p"),
    *references("timm", 96, 97, "xception41", output_stride=16),
]  # fmt: skip
# Auxiliary heads, each with the layer that it reads.
AUXILIARY = {
    "googlenet": {"aux1": "inception4a", "aux2": "inception4d"},
    "inception_v3": {"AuxLogits": "Mixed_6e"},
}


def main() -> None:
    """Makes the files that the command line selects, and prints a line for each.

    Raises:
        SystemExit: If a pattern selects none.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("patterns", nargs="*", default=["*"], help="file names without suffix; * and ? match")
    patterns = parser.parse_args().patterns
    for pattern in patterns:
        if not fnmatch.filter([row.stem for row in REFERENCES], pattern):
            parser.error(f"{pattern!r} matches none of: {' '.join(row.stem for row in REFERENCES)}")
    torch.set_num_threads(1)  # the same sums, however many cores there are
    rows = [row for row in REFERENCES if any(fnmatch.fnmatch(row.stem, pattern) for pattern in patterns)]
    for number, row in enumerate(rows, 1):
        start = time.perf_counter()
        arrays, noise = golden(row)
        write(FOLDER / f"{row.stem}.npz", arrays)
        even, odd = arrays["logits_even"], arrays["logits_odd"]
        print(
            f"{number:3}/{len(rows)} {row.stem:32} largest logit {np.abs(even).max():5.2f}, "
            f"std {even.std():5.2f}, between sizes {np.abs(even - odd).max():5.2f}, "
            f"float32 off by {noise:.0e}, {time.perf_counter() - start:.0f} s",
            flush=True,
        )


def golden(row: Reference) -> tuple[dict[str, np.ndarray], float]:
    """What one file holds, and the largest error of float32 as a share of the largest logit."""
    model = build(row)
    state = {k: v for k, v in model.state_dict().items() if not k.endswith(".num_batches_tracked")}
    for name, tensor in state.items():
        tensor.copy_(torch.from_numpy(parameter(name, tuple(tensor.shape))))
    logits_even, aux_even, macs = run(model, row.even)
    logits_odd, _, _ = run(model, row.odd)
    arrays = {
        "names": np.array(list(state)),
        "shapes": np.array([",".join(map(str, tensor.shape)) for tensor in state.values()]),
        "sizes": np.array([row.even, row.odd]),
        "logits_even": logits_even,
        "logits_odd": logits_odd,
        "macs": np.int64(macs),
        "parameters": np.int64(sum(p.numel() for p in model.parameters() if p.requires_grad)),
    }
    if len(aux_even):
        arrays["aux_even"] = aux_even
    model.double()
    exact = {"logits_even": run(model, row.even)[0], "logits_odd": run(model, row.odd)[0]}
    noise = max(np.abs(arrays[k] - exact[k]).max() / np.abs(exact[k]).max() for k in exact)
    return arrays, float(noise)


def build(row: Reference) -> torch.nn.Module:
    """The model of a row in evaluation mode, auxiliary heads included but not run."""
    options: dict[str, object] = {"aux_logits": True} if row.model in AUXILIARY else {}
    if row.source == "torchvision":
        if row.model in AUXILIARY:
            options |= {"transform_input": False, "init_weights": False}
        model = torchvision.models.get_model(row.model, weights=None, **options)
    else:
        if row.output_stride != 32:
            options["output_stride"] = row.output_stride
        model = timm.create_model(row.model, pretrained=False, **options)
    if row.model in AUXILIARY:
        model.aux_logits = False  # timm runs them in evaluation, too
    return model.eval()


@torch.inference_mode()
def run(model: torch.nn.Module, size: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Runs a model on `image(size)` in the type of its parameters.

    Args:
        model: Model of `build`.
        size: Size of the image.

    Returns:
        Logits (classes,), those of the auxiliary heads (heads, classes), and the multiply-accumulates of
        convolutions and linear layers. Biases count as nothing, and so do the heads.
    """
    macs = 0
    features = {}

    def count(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        macs += output.numel() * module.weight[0].numel()

    def keep(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        features[module] = output

    layers = dict(model.named_modules())
    heads = {head: at for row in AUXILIARY.values() for head, at in row.items() if head in layers}
    counted = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Linear)
    hooks = [layer.register_forward_hook(count) for layer in layers.values() if isinstance(layer, counted)]
    hooks += [layers[at].register_forward_hook(keep) for at in heads.values()]
    x = torch.from_numpy(image(size).transpose(0, 3, 1, 2).copy()).to(next(model.parameters()).dtype)
    logits = model(x)[0].numpy()
    for hook in hooks:
        hook.remove()
    auxiliary = [layers[head](features[layers[at]])[0].numpy() for head, at in heads.items()]
    return logits, np.array(auxiliary), macs


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes beside and renames: no file is ever half written."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    os.replace(part, path)


if __name__ == "__main__":
    main()

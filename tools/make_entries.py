"""Writes the rows of timm and torchvision in keras_archs/weights/entries.csv from the installed packages.

The rows of Keras stay as the file has them, and so does top-1, unless `--results` names a newer table with
the columns model, img_size and top1. The committed figures are those of results/results-imagenet.csv of
pytorch-image-models at 7479d451 (July 2024); resnetv2_18, _18d, _34 and _34d came later, their two decimals
are of timm 1.0.29.
"""

import argparse
import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg
from torchvision.models import GoogLeNet_Weights

ENTRIES = Path(__file__).parents[1] / "keras_archs" / "weights" / "entries.csv"
MODULES = """
    resnet resnetv2 inception_v3 inception_v4 inception_resnet_v2 xception xception_aligned vgg
""".split()
# Normalizations that no other model has, networks cut by hand, a toy.
NO_BUILDER = (
    "resnetv2_50d_evos",
    "resnetv2_50d_frn",
    "ecaresnet50d_pruned",
    "ecaresnet101d_pruned",
    "test_resnet",
)
OUR_NAMES = {"legacy_xception": "xception"}
TIMM_RELEASES = "https://github.com/rwightman/pytorch-image-models/releases/download/"
TORCHVISION_MODELS = "https://download.pytorch.org/models/"
# Mean and standard deviation of RGB in 0..1 -> mode of keras_archs.preprocess_input.
PREPROCESSING = {
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)): "tf",
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)): "torch",
}

Row = dict[str, Any]
Scores = dict[str, dict[int, float]]


def hash_in_name(url: str) -> str:
    """PyTorch's files carry the first digits of their SHA-256 in their names."""
    return "sha256:" + re.findall(r"-([0-9a-f]{8,})\.pth$", url)[0]


def timm_rows() -> Iterator[Row]:
    """Every pretrained tag of every architecture, timm's default first."""
    for module in MODULES:
        for architecture in timm.list_models(module=module):
            if architecture in NO_BUILDER:
                continue
            default = get_pretrained_cfg(architecture).tag
            configs = get_arch_pretrained_cfgs(architecture).values()
            for config in sorted(configs, key=lambda config: config.tag != default):
                # Without classes (resnet50.bamboo) there is nothing to classify with.
                if (config.hf_hub_id or config.url) and config.num_classes:
                    yield timm_row(config)


def timm_row(config: Any) -> Row:
    """One tag; the few files that are not on the hub have a URL and a hash."""
    on_hub = bool(config.hf_hub_id)
    return {
        "model": OUR_NAMES.get(config.architecture, config.architecture),
        "tag": config.tag,
        "source": "timm",
        "file": config.hf_hub_id if on_hub else config.url.removeprefix(TIMM_RELEASES),
        "hash": "" if on_hub else hash_in_name(config.url),
        "convention": "torch",
        "preprocessing": PREPROCESSING[config.mean, config.std],
        "classes": config.num_classes,
        "size": (config.test_input_size or config.input_size)[-1],
        "crop": config.test_crop_pct or config.crop_pct,
        "interpolation": config.interpolation,
        "license": config.license,
    }


def googlenet_row() -> Row:
    """The one architecture that timm does not have."""
    weights = GoogLeNet_Weights.IMAGENET1K_V1
    transforms = weights.transforms()
    size = transforms.crop_size[0]
    return {
        "model": "googlenet",
        "tag": "tv_in1k",
        "source": "torchvision",
        "file": weights.url.removeprefix(TORCHVISION_MODELS),
        "hash": hash_in_name(weights.url),
        "convention": "torch",
        # Not what `transforms` says: with pretrained weights the model itself maps that to -1..1.
        "preprocessing": "tf",
        "classes": len(weights.meta["categories"]),
        "size": size,
        "crop": size / transforms.resize_size[0],
        "interpolation": transforms.interpolation.value,
        "top1": weights.meta["_metrics"]["ImageNet-1K"]["acc@1"],
        "top1_size": size,
        "license": "bsd-3-clause",
    }


def read_scores(results: str) -> Scores:
    """Top-1 of each tag at each size, from a table of timm's."""
    scores: Scores = defaultdict(dict)
    with open(results, newline="") as file:
        for row in csv.DictReader(file):
            model, _, tag = row["model"].partition(".")
            scores[f"{OUR_NAMES.get(model, model)}.{tag}"][int(row["img_size"])] = float(row["top1"])
    return scores


def old_scores(rows: list[Row]) -> Scores:
    """The same from the file that is about to be replaced."""
    scored = [row for row in rows if row["source"] == "timm" and row["top1"]]
    return {f"{row['model']}.{row['tag']}": {int(row["top1_size"]): float(row["top1"])} for row in scored}


def with_top1(row: Row, scores: Scores) -> Row:
    """Adds top-1 at the entry's own size, else at the largest size that was measured."""
    sizes = scores.get(f"{row['model']}.{row['tag']}")
    if not sizes:
        return row
    size = row["size"] if row["size"] in sizes else max(sizes)
    return {**row, "top1": sizes[size], "top1_size": size}


def main() -> None:
    """Replaces the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", help="CSV with the columns model, img_size and top1")
    results = parser.parse_args().results
    with ENTRIES.open(newline="") as file:
        reader = csv.DictReader(file)
        old, columns = list(reader), list(reader.fieldnames or ())
    scores = read_scores(results) if results else old_scores(old)
    rows = [row for row in old if row["source"] == "keras"]
    rows += [with_top1(row, scores) for row in timm_rows()]
    rows.append(googlenet_row())
    rows.sort(key=lambda row: row["model"])  # stable: "imagenet" means the first entry of a model
    with ENTRIES.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

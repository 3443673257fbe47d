"""Folders that the tensorflow_datasets package prepared, read without it."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_archs.choices import nearest
from keras_archs.training.reading.labels import read_class_names
from keras_archs.training.reading.records import index_files, look_at_records
from keras_archs.training.reading.scan import without_damaged
from keras_archs.training.reading.source import SPLIT_NAMES, Source, listing, refuse

FEATURES, INFO = "features.json", "dataset_info.json"
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


def find_prepared(name: str) -> Path:
    """Find the newest version of a prepared data set.

    Args:
        name: "NAME", "NAME/CONFIG" or "NAME/CONFIG:1.0.0" below $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Returns:
        The folder of the version.

    Raises:
        ValueError: If there is none, or several configurations.
    """
    data = f"tfds:{name}"
    home = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    start = home / name.replace(":", "/")
    found = [start] if (start / FEATURES).is_file() else []
    found = found or [path.parent for depth in ("*", "*/*") for path in start.glob(f"{depth}/{FEATURES}")]
    if not found:
        prepared = [path.name for path in home.glob("*/")]
        refuse(data, [f"no prepared data set at {start}.{nearest(name, prepared)} (nothing is downloaded)"])
    configs = sorted({str(path.parent.relative_to(home)) for path in found})
    if len(configs) > 1:
        refuse(data, [f"it has several configurations; take one: {listing([f'tfds:{c}' for c in configs])}"])
    return max(found, key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)])


def read_tfds(
    data: str, folder: Path, image_size: int, max_corrupt_share: float, progress: bool | None
) -> Source:
    """Index the TFRecord files of a prepared folder and look at every image.

    Args:
        data: What the user asked for, for messages.
        folder: It holds features.json, dataset_info.json and the files.
        image_size: Side of the images in training.
        max_corrupt_share: Largest share of damaged images that may be left out.
        progress: Whether to show a bar while the images are looked at.

    Returns:
        The images of its splits train, validation and test, in this order.

    Raises:
        ValueError: If there are no image and label features, files are missing or incomplete, labels are out
            of range, or too many images are damaged.
    """
    info = json.loads((folder / INFO).read_text(encoding="utf-8"))
    features = json.loads((folder / FEATURES).read_text(encoding="utf-8"))["featuresDict"]["features"]
    supervised = [
        item["featureKey"] for item in info.get("supervisedKeys", {}).get("tuple", {}).get("items", [])
    ]
    image, label = (_pick(data, features, supervised, kind) for kind in ("Image", "ClassLabel"))
    shards = _shards(data, folder, info)
    records = replace(
        index_files(data, [str(folder / name) for _, name, _ in shards], progress), feature=image
    )
    counts = np.bincount(records.which, minlength=len(shards))
    refuse(
        data,
        [
            f"{folder / name} has {count} records of {expected}"
            for (_, name, expected), count in zip(shards, counts, strict=True)
            if count != expected
        ],
    )
    numbers = range(int(features[label]["classLabel"]["numClasses"]))
    names = read_class_names(folder / f"{label}.labels.txt") or tuple(map(str, numbers))
    source, reasons = look_at_records(data, records, label, names, image_size, progress)
    splits = np.array([split for split, _, _ in shards])[records.which]
    return without_damaged(replace(source, splits=splits), reasons, data, max_corrupt_share)


def _pick(data: str, features: dict[str, Any], supervised: list[str], kind: str) -> str:
    """Find the feature of a kind: the one that is meant for supervised training, or the only one."""
    found = [name for name, feature in features.items() if feature["pythonClassName"].endswith(f".{kind}")]
    chosen = [name for name in found if name in supervised] or found
    if len(chosen) != 1:
        refuse(data, [f"it must have one {kind} feature to be used, not {found}, of {sorted(features)}"])
    return chosen[0]


def _shards(data: str, folder: Path, info: dict[str, Any]) -> list[tuple[str, str, int]]:
    """List split, file and number of records of every shard of the splits that we know."""
    if info.get("fileFormat", "tfrecord") != "tfrecord":
        refuse(data, [f"its files are {info['fileFormat']}; only tfrecord can be read"])
    splits = {split["name"]: split for split in info["splits"] if split["name"] in SPLIT_NAMES}
    if "train" not in splits:
        refuse(data, [f"it has no split 'train' but {[split['name'] for split in info['splits']]}"])
    shards = []
    for name in (name for name in SPLIT_NAMES if name in splits):
        lengths = [int(length) for length in splits[name]["shardLengths"]]
        for index, length in enumerate(lengths):
            file = (
                splits[name]
                .get("filepathTemplate", TEMPLATE)
                .format(
                    DATASET=info["name"],
                    SPLIT=name,
                    FILEFORMAT="tfrecord",
                    SHARD_INDEX=f"{index:05d}",
                    NUM_SHARDS=f"{len(lengths):05d}",
                    SHARD_X_OF_Y=f"{index:05d}-of-{len(lengths):05d}",
                )
            )
            if length:
                shards.append((SPLIT_NAMES[name], file, length))
    refuse(data, [f"{folder / file} is missing" for _, file, _ in shards if not (folder / file).is_file()])
    return shards

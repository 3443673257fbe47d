"""CSV lists of image files: path,label and, if the data comes split, split."""

import csv
import os
from pathlib import Path

import numpy as np

from keras_archs.choices import nearest
from keras_archs.training.reading.labels import LABEL_FILE, number_labels, numbers_or_names, read_class_names
from keras_archs.training.reading.scan import look_at_files, without_damaged
from keras_archs.training.reading.source import SPLIT_NAMES, Source, listing, refuse

COLUMNS = ("path", "label")


def read_list(path: str, image_size: int, max_corrupt_share: float, progress: bool | None) -> Source:
    """Read a CSV list and look at every image.

    Args:
        path: The CSV file, with a header. Paths in it are relative to its folder; labels are class names, or
            numbers, whose names a labels.txt beside it may give; a column `split` holds train, validation
            or test; other columns are ignored.
        image_size: Side of the images in training.
        max_corrupt_share: Largest share of damaged images that may be left out.
        progress: Whether to show a bar while the images are looked at.

    Returns:
        The images, in the order of the list.

    Raises:
        ValueError: If columns, labels or files are missing, a label or split is unknown, or too many images
            are damaged.
    """
    root = Path(path).parent
    lines, rows = _read_rows(path)
    problems = []
    missing = [
        f"line {line}: {row['path']!r}"
        for line, row in zip(lines, rows, strict=True)
        if not row["path"] or not os.path.isfile(root / row["path"])
    ]
    if missing:
        problems.append(f"{len(missing)} of {len(rows)} files do not exist: {listing(missing)}")
    known = read_class_names(root / LABEL_FILE)
    labels, names, wrong = number_labels(
        numbers_or_names([row["label"] for row in rows], known), known, lambda index: f"line {lines[index]}"
    )
    problems += wrong
    splits = None
    if rows and "split" in rows[0]:
        unknown = [
            f"line {line}: {row['split']!r}"
            for line, row in zip(lines, rows, strict=True)
            if row["split"] not in SPLIT_NAMES
        ]
        if unknown:
            problems.append(f"{len(unknown)} splits are none of {list(SPLIT_NAMES)}: {listing(unknown)}")
        splits = np.array([SPLIT_NAMES.get(row["split"], "") for row in rows])
    refuse(path, problems)

    images, reasons = look_at_files(str(root), [row["path"] for row in rows], image_size, progress)
    source = Source(images, labels, names, splits=splits)
    return without_damaged(source, reasons, path, max_corrupt_share)


def _read_rows(path: str) -> tuple[list[int], list[dict[str, str]]]:
    """Read the rows, stripped, and the line where each ends; check the header."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:  # spreadsheets put a mark in front
            reader = csv.DictReader(file, skipinitialspace=True)
            header = list(reader.fieldnames or ())
            lacking = [f"{name!r}.{nearest(name, header)}" for name in COLUMNS if name not in header]
            if lacking:
                refuse(path, [f"the header {header} lacks {listing(lacking)}"])
            wanted = [name for name in (*COLUMNS, "split") if name in header]
            rows, lines = [], []
            for row in reader:
                rows.append({name: (row[name] or "").strip() for name in wanted})
                lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"data={path!r} is not a CSV file in UTF-8: {error}") from error
    if not rows:
        refuse(path, ["it lists no images"])
    return lines, rows

"""Representative data, checked and written to disk sample by sample, so that any amount fits in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_CHUNK = 32


@dataclass(frozen=True)
class Samples:
    """What was written.

    Attributes:
        count: Number of samples.
        sha256: Hash of the samples as little-endian float32.
    """

    count: int
    sha256: str


def batches(data: Any, shape: tuple[int, int, int], argument: str) -> Iterator[np.ndarray]:
    """Go through image data of any usual kind, checked.

    Args:
        data: An array (N, H, W, C), or an iterable of batches (N, H, W, C) or samples (H, W, C); of
            pairs, as data sets for training yield them, the first part is taken.
        shape: (H, W, C) that each sample must have.
        argument: The caller's name for `data`, for the messages.

    Yields:
        float32 arrays (n, H, W, C) with at most 32 samples.

    Raises:
        TypeError: `data` cannot be gone through or does not hold numbers.
        ValueError: It is empty, a sample has another shape, or one holds NaN or infinity.
    """
    count = 0
    for part in _parts(data, argument):
        batch = _as_batch(part, shape, argument, count)
        for start in range(0, len(batch), _CHUNK):
            chunk = np.ascontiguousarray(batch[start : start + _CHUNK], dtype=np.float32)
            finite = np.isfinite(chunk).all(axis=(1, 2, 3))
            if not finite.all():
                index = count + int(np.argmin(finite))
                raise ValueError(f"{argument} holds NaN or infinity in sample {index}.")
            count += len(chunk)
            yield chunk
    if not count:
        raise ValueError(f"{argument} is empty; at least one sample is needed.")


def _parts(data: Any, argument: str) -> Iterator[Any]:
    if hasattr(data, "shape") and hasattr(data, "dtype"):
        yield data
        return
    if isinstance(data, (str, bytes, dict)) or not isinstance(data, Iterable):
        raise TypeError(
            f"{argument} is a {type(data).__name__}; an array (N, H, W, C) or an iterable of batches or "
            "samples is accepted."
        )
    for part in data:
        yield part[0] if isinstance(part, (tuple, list)) and len(part) else part


def _as_batch(part: Any, shape: tuple[int, int, int], argument: str, index: int) -> np.ndarray:
    batch = np.asarray(part)
    if not (np.issubdtype(batch.dtype, np.number) or batch.dtype.name == "bfloat16"):
        raise TypeError(f"{argument}: sample {index} is of type {batch.dtype}; numbers are accepted.")
    if np.iscomplexobj(batch):
        raise TypeError(f"{argument}: sample {index} is complex; real numbers are accepted.")
    if batch.shape == shape:
        batch = batch[np.newaxis]
    if batch.shape[1:] != shape:
        raise ValueError(
            f"{argument}: the data at sample {index} has shape {batch.shape}; the model takes "
            f"(N, {', '.join(map(str, shape))})."
        )
    return batch


def write_samples(data: Any, shape: tuple[int, int, int], path: Path) -> Samples:
    """Write representative data as raw float32, the form in which the worker maps it.

    Args:
        data: As for `batches`.
        shape: (H, W, C) of the model's input.
        path: The file to write.

    Returns:
        Count and hash of what was written.

    Raises:
        TypeError: As for `batches`.
        ValueError: As for `batches`, or all values are the same.
    """
    digest = hashlib.sha256()
    count, low, high = 0, np.inf, -np.inf
    with path.open("wb") as file:
        for batch in batches(data, shape, "representative_data"):
            raw = batch.astype("<f4", copy=False).tobytes()
            digest.update(raw)
            file.write(raw)
            count += len(batch)
            low, high = min(low, batch.min()), max(high, batch.max())
    if low == high:
        raise ValueError(f"representative_data is {low:g} everywhere: there is no range to choose from.")
    return Samples(count, digest.hexdigest())


def read_samples(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Map written samples.

    Args:
        path: A file of `write_samples`.
        shape: (H, W, C).

    Returns:
        float32 array (N, H, W, C) backed by the file, read only.
    """
    return np.memmap(path, dtype="<f4", mode="r").reshape(-1, *shape)

"""Which image stands where in which epoch: a function of the seed, the same for any number of workers."""

import numpy as np


def epoch_order(
    labels: np.ndarray, epoch: int, *, seed: int, batch_size: int, repeats: int = 1, balanced: bool = False
) -> np.ndarray:
    """Put the images of an epoch in order; the last ones that fill no batch are left for other epochs.

    Args:
        labels: Class numbers, shape (N,).
        epoch: From 0.
        seed: Of the run.
        batch_size: Images a step over all devices; at most N.
        repeats: Copies of an image in a batch, far apart: "repeated augmentation" (Hoffer et al. 2020,
            arXiv 1901.09335). An epoch has as many steps as ever, and fewer different images.
        balanced: Draw from each class equally often.

    Returns:
        Image numbers, shape (steps * batch_size,); row k of its reshape to (steps, batch_size) is step k.
    """
    random = np.random.default_rng([seed, epoch])
    order = _balanced(labels, random) if balanced else random.permutation(len(labels))
    steps = len(labels) // batch_size
    distinct = order[: steps * batch_size // repeats].reshape(steps, batch_size // repeats)
    return np.tile(distinct, (1, repeats)).reshape(-1)


def _balanced(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """As many draws as there are images, from each class as many (or one less): all of it, over and over."""
    classes = random.permutation(np.unique(labels))
    shares = np.full(len(classes), len(labels) // len(classes))
    shares[: len(labels) % len(classes)] += 1
    draws = []
    for label, share in zip(classes, shares, strict=True):
        members = np.flatnonzero(labels == label)
        rounds = [random.permutation(members) for _ in range(-(-share // len(members)))]
        draws.append(np.concatenate(rounds)[:share])
    return random.permutation(np.concatenate(draws))


def worker_part(order: np.ndarray, batch_size: int, worker: int, workers: int) -> np.ndarray:
    """Take one worker's part of every step.

    Args:
        order: Image numbers, shape (steps * batch_size,).
        batch_size: Images a step over all workers.
        worker: From 0.
        workers: How many share a step evenly.

    Returns:
        Image numbers, shape (steps * batch_size / workers,).
    """
    return order.reshape(-1, workers, batch_size // workers)[:, worker].reshape(-1)


def padded(count: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Number the images of an evaluation and fill up the last batch with copies that weigh nothing.

    Args:
        count: Images.
        batch_size: Images a step over all devices.

    Returns:
        Image numbers and weights (1, or 0 for a copy), a multiple of batch_size of each.
    """
    total = -(-count // batch_size) * batch_size
    numbers = np.arange(total) % count
    return numbers, (np.arange(total) < count).astype(np.float32)

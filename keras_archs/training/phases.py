"""Phases: epochs that are trained alike, from the configuration."""

from collections.abc import Iterator
from dataclasses import dataclass

from keras_archs.training.config import TrainConfig


@dataclass(frozen=True)
class Phase:
    """Epochs with the same layers in training and one size of image.

    Attributes:
        epochs: Which.
        size: Side of an image in pixels.
        frozen: Whether only the classifier learns.
        optimizer: Phases of the same number share an optimizer.
    """

    epochs: range
    size: int
    frozen: bool
    optimizer: int

    def portions(self, epoch: int, step: int) -> Iterator[tuple[range, int]]:
        """What is left of the phase: one call of `fit` each, since each has epochs of one length.

        Args:
            epoch: Finished epochs of the run.
            step: Finished steps of the next one.

        Yields:
            Epochs, and steps of them that are done already.
        """
        begin = max(epoch, self.epochs.start)
        if epoch in self.epochs and step:
            yield range(epoch, epoch + 1), step
            begin = epoch + 1
        if begin < self.epochs.stop:
            yield range(begin, self.epochs.stop), 0


def phases_of(config: TrainConfig) -> list[Phase]:
    """Cut the run where something changes.

    Args:
        config: Its epochs, frozen epochs, and progressive resizing (Howard 2018; Tan and Le 2021,
            arXiv 2104.00298).

    Returns:
        Phases in order; together they have all epochs.
    """
    epochs, frozen = config.run.epochs, config.finetune.frozen_epochs
    sizes = {round(share * epochs): size for share, size in config.run.resizing} or {
        0: config.data.image_size
    }
    cuts = sorted({*sizes, frozen, 0})
    return [
        Phase(
            range(begin, end),
            size=sizes[max(cut for cut in sizes if cut <= begin)],
            frozen=begin < frozen,
            optimizer=int(begin >= frozen),
        )
        for begin, end in zip(cuts, [*cuts[1:], epochs], strict=True)
        if begin < end
    ]

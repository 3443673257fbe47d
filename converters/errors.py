"""The two errors of this package's own; everything else is a ValueError, TypeError or OSError."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converters.verify import Report


class ConversionError(RuntimeError):
    """A model could not be converted the way its recipe says.

    Attributes:
        log: Everything the converter printed; the message holds only its first real error.
    """

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class VerificationError(RuntimeError):
    """An artifact differs from its Keras model by more than its recipe tolerates.

    Attributes:
        report: What was measured.
    """

    def __init__(self, report: Report) -> None:
        super().__init__("; ".join(report.failures) + f"\n{report}")
        self.report = report

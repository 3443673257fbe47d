"""A spinner and a bar on stderr while a conversion runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def show_stages(show: bool | None) -> Iterator[Callable[[str, int, int], None]]:
    """Show the stage at work.

    Args:
        show: True or False; None shows it when stderr is a terminal.

    Yields:
        A function of (stage, done, total); a total of 0 leaves the bar moving to and fro.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, force_terminal=show), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda stage, done, total: progress.update(
            task, description=stage, completed=done, total=total or None
        )

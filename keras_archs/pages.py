"""What the pages that people open in a browser share: one look, tables, pictures inside the file."""

import base64
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light dark; --ink: #1c1f26; --muted: #646b78; --line: #e2e5ea; --paper: #fff;
  --card: #f5f6f8; --bar: #8fb0dc; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ec; --muted: #9aa1ad; --line: #30343c; --paper: #15171b; --card: #1e2126;
    --bar: #41659a; }
  .drawn, .key i { filter: invert(1) hue-rotate(180deg); mix-blend-mode: screen; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 64rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.2rem; }
p { margin: .25rem 0 .75rem; }
.facts + p { margin-top: 1rem; }
.muted, figcaption, th, dt { color: var(--muted); }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(10.5rem, 45%), 1fr)); gap: .75rem;
  margin: 1.25rem 0 0; }
.facts div { padding: .75rem .9rem; border-radius: .5rem; background: var(--card); }
dt, .facts small { font-size: .85rem; }
dd { margin: 0; font-size: 1.35rem; font-weight: 600; line-height: 1.3; }
.facts small { display: block; font-size: .8rem; font-weight: 400; color: var(--muted); }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: .5rem; }
.curves img { width: 100%; max-width: 30rem; }
.key span { margin-right: 1.25rem; white-space: nowrap; }
.key i { display: inline-block; width: 1.4rem; margin-right: .4rem; vertical-align: middle; }
.pair { display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-start; }
.pair > * { flex: 1 1 20rem; min-width: 0; }
.wide { overflow-x: auto; }
.wide img { display: block; max-width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { font-weight: 500; font-size: .85rem; white-space: nowrap; }
.n { text-align: right; white-space: nowrap; }
.bar { min-width: 3rem; margin-top: .4rem; background: var(--card); }
.bar, .bar i { height: .7rem; border-radius: .15rem; print-color-adjust: exact; }
.bar i { display: block; background: var(--bar); }
td:has(.bar) { width: 30%; }
.gap td { padding: .6rem 0; color: var(--muted); text-align: center; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr));
  gap: 1rem .75rem; }
.mistakes figure { margin: 0; font-size: .85rem; line-height: 1.35; overflow-wrap: anywhere; }
.mistakes img { display: block; width: 6rem; height: 6rem; margin-bottom: .3rem; border-radius: .3rem;
  image-rendering: pixelated; }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere; }
td:first-child > code { white-space: nowrap; }
summary { cursor: pointer; padding: .5rem 0; }
@media (max-width: 30rem) {
  th, td { padding-right: .5rem; }
}
@media print {
  :root { --ink: #000; --muted: #444; --line: #ccc; --paper: #fff; --card: #f3f3f3; --bar: #8fb0dc; }
  body { max-width: none; padding: 0; font-size: .8rem; }
  .drawn, .key i { filter: none; mix-blend-mode: normal; }
  .facts div, figure, img, tr { break-inside: avoid; }
  h2, p { break-after: avoid; }
  .curves { grid-template-columns: repeat(3, 1fr); }
  details::details-content { content-visibility: visible; block-size: auto; }
  .wide { overflow: visible; }
  .wide img { min-width: 0; }
}
"""


def html_table(heads: Sequence[str], rows: Iterable[str]) -> str:
    """A table that scrolls sideways where it is too wide.

    Args:
        heads: HTML; one that begins with # stands above numbers.
        rows: Of `html_row`.

    Returns:
        HTML.
    """
    cells = "".join(
        f'<th class="n">{head[1:]}</th>' if head.startswith("#") else f"<th>{head}</th>" for head in heads
    )
    return f'<div class="wide"><table>\n<tr>{cells}</tr>\n' + "\n".join(rows) + "\n</table></div>"


def html_row(texts: Iterable[str], numbers: Iterable[str] = ()) -> str:
    """A row of a table.

    Args:
        texts: HTML, to the left.
        numbers: HTML, to the right.

    Returns:
        HTML.
    """
    left = [f"<td>{text}</td>" for text in texts]
    right = [f'<td class="n">{number}</td>' for number in numbers]
    return f"<tr>{''.join([*left, *right])}</tr>"


def inline_figure(figure: "Figure") -> str:
    """A figure of matplotlib's as a data URI.

    Args:
        figure: The figure.

    Returns:
        What an image's `src` takes.
    """
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return inline_png(buffer.getvalue())


def inline_png(png: bytes) -> str:
    """A PNG file as a data URI.

    Args:
        png: Its bytes.

    Returns:
        What an image's `src` takes.
    """
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def calm_axes(axes: Any) -> None:
    """Pale lines behind the data, no box around it.

    Args:
        axes: Of matplotlib's; changed.
    """
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)

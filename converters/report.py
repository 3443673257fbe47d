"""The page that shows a comparison: one file that needs no network."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.blame import LayerError, in_words
from converters.comparison import Comparison, cells, filled, frontier
from converters.formats import byte_size, decibels, milliseconds, percent
from converters.recipes import get_recipe
from converters.rewrite import REWRITES
from converters.targets import TARGETS, Finding
from keras_archs.pages import STYLE, calm_axes, html_row, html_table, inline_figure
from keras_archs.training.atomic import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERED = 5  # Layers of a blame list, and of its picture.
_WIDE = 5  # Times that differ by more are drawn on a logarithmic axis.
_COLORS = ("#3b6fb6", "#d9702b", "#5b8c5a", "#8a5aa8", "#b08a1e", "#3a9a9a", "#b3261e", "#777777")
_OWN_COLOR, _WORST_COLOR = "0.7", "#b3261e"

_STYLE = """
.drawn { display: block; width: 100%; max-width: 60rem; height: auto; min-width: 34rem; }
.bad { color: #b3261e; font-weight: 600; }
@media (prefers-color-scheme: dark) { .bad { color: #ff8a80; } }
ol, ul { margin: .5rem 0 1rem; padding-left: 1.6rem; }
li { margin: .25rem 0; overflow-wrap: anywhere; }
h3 { margin: 1.5rem 0 .4rem; font-size: 1rem; }
pre { padding: .75rem .9rem; border-radius: .5rem; background: var(--card); white-space: pre-wrap; }
.spread { display: block; font-size: .75rem; color: var(--muted); }
"""


def write_page(comparison: Comparison, path: Path, date: str) -> Path:
    """Write a comparison as a page, and as JSON beside it, each whole or not at all.

    Args:
        comparison: What was measured.
        path: Of the page; ends in .html.
        date: What to write under the title; may be empty.

    Returns:
        The path.

    Raises:
        ValueError: The path does not end in .html.
        OSError: A file cannot be written.
    """
    if path.suffix != ".html":
        raise ValueError(f"path={str(path)!r} must end in .html; the JSON is written beside it.")
    found = json.dumps(comparison.to_dict(), indent=2, allow_nan=False) + "\n"
    text = page(comparison, date)
    path.parent.mkdir(parents=True, exist_ok=True)
    for target, content in ((path, text), (path.with_suffix(".json"), found)):
        with written_whole(target) as beside:
            # Names of layers and classes may hold what is no UTF-8.
            beside.write_text(content, encoding="utf-8", errors="replace")
    return path


def page(comparison: Comparison, date: str = "") -> str:
    """Make the page.

    Args:
        comparison: What was measured.
        date: What to write under the title; may be empty.

    Returns:
        HTML.
    """
    title = escape(f"{comparison.model_name}, converted in {len(comparison.rows)} ways")
    parts = [
        _head(comparison, title, date),
        _facts(comparison),
        _numbers(comparison),
        _trade(comparison),
        _blame(comparison),
        _rewrites(comparison),
        _delegates(comparison),
        _targets(comparison),
        _calls(comparison),
        _versions(comparison),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def draw_trade(comparison: Comparison) -> Figure:
    """Draw quality against time: a circle a candidate, its area the size of the file, and the frontier.

    Args:
        comparison: What was measured.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    name, qualities = _quality(comparison)
    times = [row.latency[comparison.usual_threads].median_ms for row in comparison.rows]
    largest = max(row.size_bytes for row in comparison.rows)
    figure = Figure(figsize=(9.6, 4.2), dpi=160, layout="constrained")
    axes = figure.subplots()
    best = frontier(list(zip(times, qualities, strict=True)))
    axes.step(
        [times[i] for i in best], [qualities[i] for i in best], where="post", color="0.6", zorder=1,
        linewidth=1.2, label="no other is both faster and better",
    )  # fmt: skip
    for i, row in sorted(enumerate(comparison.rows), key=lambda pair: -pair[1].size_bytes):
        axes.scatter(
            times[i], qualities[i], s=40 + 900 * row.size_bytes / largest, color=_COLORS[i % len(_COLORS)],
            alpha=0.65, linewidths=0, zorder=2,
        )  # fmt: skip
        axes.plot(times[i], qualities[i], "+", color="0.15", markersize=5, zorder=3)
    for i, row in enumerate(comparison.rows):
        label = f"{_short(row.label)}, {byte_size(row.size_bytes)}".replace("$", r"\$")
        axes.scatter([], [], s=60, color=_COLORS[i % len(_COLORS)], alpha=0.65, linewidths=0, label=label)
    if name == "accuracy" and comparison.keras_accuracy is not None:
        axes.axhline(comparison.keras_accuracy, color="0.4", linestyle=":", zorder=0, label="Keras model")
    count = comparison.threads[comparison.usual_threads]
    axes.set(xlabel=f"milliseconds an image, {count} thread{'s' * (count > 1)}", ylabel=name)
    axes.margins(x=0.15, y=0.25)
    if max(times) > _WIDE * min(times):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, max(times) * 1.2)
    if name != "SQNR in dB":
        axes.yaxis.set_major_formatter(lambda share, _: f"{share:.1%}" if share <= 1 else "")
    calm_axes(axes)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def draw_layers(errors: Sequence[LayerError]) -> Figure:
    """Draw the noise ratio of every layer in the order of execution, the most suspicious ones numbered.

    Args:
        errors: As `converters.blame.layer_errors` returns them.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9.6, 3.2), dpi=160, layout="constrained")
    axes = figure.subplots()
    for field, color, label in (
        ("own_sqnr_db", _OWN_COLOR, "error added in this layer alone"),
        ("sqnr_db", _COLORS[0], "all error so far"),
    ):
        ratios = {error.index: getattr(error, field) for error in errors}
        finite = {place: ratio for place, ratio in sorted(ratios.items()) if math.isfinite(ratio)}
        style = "o-" if field == "sqnr_db" else "o"
        axes.plot(
            list(finite), list(finite.values()), style, color=color, markersize=4, linewidth=0.8, label=label
        )
    for number, error in enumerate(errors[:NUMBERED], 1):
        if math.isfinite(error.sqnr_db):
            axes.annotate(
                str(number), (error.index, error.sqnr_db), xytext=(0, -12), textcoords="offset points",
                ha="center", color=_WORST_COLOR, weight="bold", fontsize=9,
            )  # fmt: skip
    axes.set(xlabel="layer, in the order of execution", ylabel="SQNR in dB")
    axes.margins(x=0.03, y=0.18)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    calm_axes(axes)
    axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def _quality(comparison: Comparison) -> tuple[str, list[float]]:
    """What tells best how good a candidate is, and its values."""
    rows = comparison.rows
    for name in ("accuracy", "agreement"):
        shares = [getattr(row, name) for row in rows]
        if None not in shares and len(set(shares)) > 1:  # What is the same for all tells nothing.
            return name if name == "accuracy" else "agreement with the Keras model", shares
    finite = [row.sqnr_db for row in rows if math.isfinite(row.sqnr_db)]
    most = max(finite, default=0.0) + 10  # Where an exact candidate is drawn.
    return "SQNR in dB", [min(row.sqnr_db, most) if not math.isnan(row.sqnr_db) else 0.0 for row in rows]


def _head(comparison: Comparison, title: str, date: str) -> str:
    facts = [f"{comparison.samples:,} images", comparison.machine, *([date] if date else [])]
    sentences = "\n".join(f"<p>{escape(text)}</p>" for text in comparison.headline())
    return f'<h1>{title}</h1>\n<p class="muted">{escape("; ".join(facts))}</p>\n{sentences}'


def _facts(comparison: Comparison) -> str:
    """The numbers that people look for first."""
    rows, place = comparison.rows, comparison.usual_threads
    small = min(rows, key=lambda row: row.size_bytes)
    fast = min(rows, key=lambda row: row.latency[place].median_ms)
    near = max(rows, key=lambda row: (not math.isnan(row.sqnr_db), row.sqnr_db))
    facts = [
        ("smallest", byte_size(small.size_bytes), small.label),
        ("fastest", milliseconds(fast.latency[place].median_ms), fast.label),
        ("nearest to the Keras model", decibels(near.sqnr_db), near.label),
    ]
    if comparison.keras_accuracy is not None:
        best = max(rows, key=lambda row: row.accuracy or 0)
        keras = f"{best.label}; the Keras model has {percent(comparison.keras_accuracy)}"
        facts.append(("best accuracy", percent(best.accuracy), keras))
    cells = [
        f"<div><dt>{name}</dt><dd>{value}<small>{escape(note)}</small></dd></div>"
        for name, value, note in facts
    ]
    return '<dl class="facts">\n' + "\n".join(cells) + "\n</dl>"


def _numbers(comparison: Comparison) -> str:
    threads = [f"#{count} thread{'s' * (count > 1)}" for count in comparison.threads]
    heads = [
        "candidate",
        "#accuracy",
        "#agreement",
        "#SQNR",
        "#size",
        *threads,
        "#XNNPACK",
        "#memory",
        "#tolerance",
    ]
    rows = []
    if comparison.keras_accuracy is not None:
        rows.append(["Keras model", percent(comparison.keras_accuracy), *[""] * (len(heads) - 2)])
    for row in comparison.rows:
        numbers = [escape(text) for text in cells(row)]
        for i, latency in enumerate(row.latency):
            spread = " to ".join(milliseconds(ms) for ms in (latency.p10_ms, latency.p90_ms))
            numbers[4 + i] += f'<span class="spread">{spread}</span>'
        verdict = '<span class="bad">failed</span>' if row.failures else "met"
        rows.append([f"<b>{escape(row.label)}</b>", *numbers, verdict])
    heads, rows = filled(heads, rows)
    about = (
        f"Medians of {comparison.rows[0].latency[0].runs} runs of one image, the candidates in turns, and "
        "what lies between the fastest and the slowest tenth. XNNPACK: the parts that the CPU delegate takes "
        "the network in; one is best. Memory: the tensors between layers. SQNR: of the "
        f"{comparison.compared}, against the Keras model."
    )
    decides = (
        ""
        if all(row.latency[0].num_threads for row in comparison.rows)
        else (" A SavedModel decides itself how many threads it uses.")
    )
    table = html_table(heads, [html_row(row[:1], row[1:]) for row in rows])
    return f'<h2>Numbers</h2>\n{table}\n<p class="muted">{about}{decides}</p>'


def _trade(comparison: Comparison) -> str:
    name, _ = _quality(comparison)
    return (
        f"<h2>Time against {name}</h2>\n{_image(draw_trade(comparison), f'Time against {name}')}\n"
        '<p class="muted">Further left is faster, further up is better; the area is the size of the file.</p>'
    )


def _blame(comparison: Comparison) -> str:
    integers = [row for row in comparison.rows if get_recipe(row.recipe).needs_data]
    parts = []
    for row in integers:
        errors = comparison.blame.get(row.label)
        parts.append(f"<h3>{escape(row.label)}</h3>")
        if errors is None:
            parts.append(
                "<p>Not compared layer by layer: no float model with the same tensors is at hand.</p>"
            )
            continue
        words = _list("ol", in_words(errors, most=NUMBERED))
        parts += [_image(draw_layers(errors), f"SQNR of the layers of {row.label}"), words]
        if row.float_layers:
            parts.append(f"<p>{len(row.float_layers)} operations stay in float, as the tolerance asks.</p>")
    if not parts:
        return ""
    about = (
        "<p>Rounding to integers adds noise in every layer. The numbered ones hurt the result most; what "
        "they need is said below.</p>"
    )
    return "\n".join(["<h2>Where the quality goes</h2>", about, *parts])


def _rewrites(comparison: Comparison) -> str:
    used = [name for name in REWRITES if any(name in row.rewrites for row in comparison.rows)]
    if not used:
        return "<h2>Rewrites</h2>\n<p>No rewrite found anything to do in this network.</p>"
    heads = ["rewrite", "what it does", *(f"#{escape(row.label)}" for row in comparison.rows)]
    rows = [
        html_row(
            [f"<code>{name}</code>", escape(REWRITES[name].summary)],
            [str(row.rewrites.get(name, "")) for row in comparison.rows],
        )
        for name in used
    ]
    return f"<h2>Rewrites</h2>\n<p>At how many places each applied.</p>\n{html_table(heads, rows)}"


def _delegates(comparison: Comparison) -> str:
    rows = [row for row in comparison.rows if row.delegates]
    if not rows:
        return ""
    names = list(rows[0].delegates)
    taken = [
        html_row(
            [escape(row.label), *(_taken(row.delegates[name]) for name in names), escape(row.arena_op)],
            ["" if row.arena_bytes is None else byte_size(row.arena_bytes)],
        )
        for row in rows
    ]
    refused = [
        f"{row.label}, {name}: {one['ops']} x {one['kind']}: {one['reason']}"
        for row in rows
        for name in names
        for one in row.delegates[name]["refused"]
    ]
    details = f"<details>\n<summary>What they refuse</summary>\n{_list('ul', refused)}\n</details>"
    return (
        "<h2>Delegates and memory</h2>\n<p>How many operations each delegate takes, in how many parts, told "
        "from its tables; the peak of the tensors' memory, and where it is.</p>\n"
        + html_table(["candidate", *names, "most memory at", "#memory"], taken)
        + ("\n" + details if refused else "")
    )


def _taken(found: dict[str, Any]) -> str:
    pieces = f"{found['partitions']} part{'s' * (found['partitions'] != 1)}" if found["taken"] else ""
    return f'{found["taken"]}&nbsp;of&nbsp;{found["total"]}<span class="spread">{pieces}</span>'


def _targets(comparison: Comparison) -> str:
    names = [name for name in TARGETS if any(name in row.lint for row in comparison.rows)]
    rows = [row for row in comparison.rows if row.lint]
    if not rows:
        return ""
    heads = ["target", "what it is", *(f"#{escape(row.label)}" for row in rows)]
    table = [
        html_row(
            [f"<code>{name}</code>", escape(TARGETS[name].summary)],
            [_verdict(row.lint.get(name)) for row in rows],
        )
        for name in names
    ]
    findings = [
        f"{name}, {row.label}: {finding}"
        for name in names
        for row in rows
        for finding in row.lint.get(name, ())
    ]
    summary = "What stands in the way, and what to do"
    details = f"<details>\n<summary>{summary}</summary>\n{_list('ul', findings)}\n</details>"
    return f"<h2>Targets</h2>\n{html_table(heads, table)}" + ("\n" + details if findings else "")


def _verdict(findings: Sequence[Finding] | None) -> str:
    if findings is None:
        return '<span class="muted">not for it</span>'
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors
    if errors:
        return f'<span class="bad">{errors} error{"s" * (errors > 1)}</span>'
    return f"{warnings} warning{'s' * (warnings > 1)}" if warnings else "ready"


def _calls(comparison: Comparison) -> str:
    if not comparison.calls:
        return ""
    lines = [f"{call}  # {label}" for label, call in comparison.calls.items()]
    return f"<h2>How to make them again</h2>\n<pre><code>{escape(chr(10).join(lines))}</code></pre>"


def _versions(comparison: Comparison) -> str:
    text = ", ".join(f"{package} {version}" for package, version in comparison.versions.items())
    return f'<p class="muted">{escape(text)}</p>'


def _list(tag: str, texts: Iterable[str]) -> str:
    items = "\n".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<{tag}>\n{items}\n</{tag}>"


def _image(figure: Figure, text: str) -> str:
    return f'<div class="wide"><img class="drawn" src="{inline_figure(figure)}" alt="{escape(text)}"></div>'


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"

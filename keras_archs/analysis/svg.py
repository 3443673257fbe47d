"""The few SVG shapes that a drawing needs, as text."""

from xml.sax.saxutils import escape

INK = "#1f2933"
PALE = "#52606d"
NARROW = frozenset(" .,:;/-|()fijlrt")


def rect(x: float, y: float, width: float, height: float, fill: str, stroke: str, radius: float = 4) -> str:
    """A rectangle with round corners; (x, y) is its upper left one."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" '
        f'fill="{fill}" stroke="{stroke}"/>'
    )


def line(commands: str, width: float = 1.5, arrow: bool = False) -> str:
    """A line; `commands` as in SVG: 'M0 0 H10'."""
    end = ' marker-end="url(#arrow)"' if arrow else ""
    return f'<path d="{commands}" fill="none" stroke="{PALE}" stroke-width="{width:g}"{end}/>'


def text(
    x: float,
    y: float,
    words: str,
    size: float = 12,
    anchor: str = "middle",
    bold: bool = False,
    fill: str = INK,
) -> str:
    """One line of text; (x, y) is on its baseline, at its start, middle or end."""
    if not words:
        return ""
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}"{weight} '
        f'fill="{fill}">{escape(words)}</text>'
    )


def circle(x: float, y: float, radius: float) -> str:
    """A white circle around (x, y)."""
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="#ffffff" stroke="{INK}" stroke-width="1.5"/>'


def text_width(words: str, size: float = 12, bold: bool = False) -> float:
    """About the width of a line of text: fonts differ, so it is that of a wide one."""
    return (1.1 if bold else 1.0) * size * sum(0.4 if character in NARROW else 0.63 for character in words)


def fitted(words: str, size: float, bold: bool, room: float) -> str:
    """A line of text, or its end if it is too long for its room: there names differ."""
    if text_width(words, size, bold) <= room:
        return words
    while text_width(f"...{words}", size, bold) > room:
        words = words[1:]
    return f"...{words}"


def move(x: float, y: float, svg: str) -> str:
    """The same shapes elsewhere."""
    return f'<g transform="translate({x:g} {y:g})">{svg}</g>'


def document(width: float, height: float, title: str, svg: str) -> str:
    """The whole file, on white."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" font-family="Helvetica, Arial, \'DejaVu Sans\', sans-serif">\n'
        f"<title>{escape(title)}</title>\n"
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{PALE}"/></marker></defs>\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{svg}\n</svg>\n'
    )

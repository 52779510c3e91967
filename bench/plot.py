"""Line charts as SVG, without a library: a few series over a logarithmic x axis."""

import math
from html import escape

COLOURS = ["#0b6bcb", "#c4501b", "#2f7d32", "#7b3fa0", "#6b6b6b", "#b8860b", "#00838f"]
WIDTH, HEIGHT = 430, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 34, 44


def _steps(highest):
    """Round values from 0 to just above `highest`."""
    raw = (highest or 1) / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    return [index * step for index in range(math.ceil((highest or 1) / step) + 1)]


def _number(value):
    return f"{value:,.0f}".replace(",", " ") if value >= 10 or value == int(value) else f"{value:g}"


def _panel(title, x_label, series, colours, offset):
    xs = sorted({x for points in series.values() for x, _ in points})
    steps = _steps(max((y for points in series.values() for _, y in points), default=1))
    low, high = math.log(max(xs[0], 1)), math.log(max(xs[-1], 2))

    def at_x(x):
        return offset + LEFT + (math.log(max(x, 1)) - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)

    def at_y(y):
        return TOP + (1 - y / steps[-1]) * (HEIGHT - TOP - BOTTOM)

    out = [f'<text x="{offset + LEFT}" y="20" font-weight="bold">{escape(title)}</text>']
    for step in steps:
        y = at_y(step)
        out.append(f'<line x1="{offset + LEFT}" y1="{y:.1f}" x2="{offset + WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{offset + LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(step)}</text>')
    for x in xs:
        out.append(f'<text x="{at_x(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_number(x)}</text>')
    middle = offset + (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    for name, points in series.items():
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
        out.extend(f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3" fill="{colours[name]}"/>' for x, y in points)
    return out


def chart(panels, x_label):
    """`panels` is a list of (title, {series: [(x, y), ...]}), drawn side by side with one legend."""
    names = list(dict.fromkeys(name for _, series in panels for name in series))
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    width, height = WIDTH * len(panels), HEIGHT + 22 * ((len(names) + 3) // 4) + 6
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for index, (title, series) in enumerate(panels):
        out.extend(_panel(title, x_label, series, colours, index * WIDTH))
    for index, name in enumerate(names):
        x, y = LEFT + index % 4 * (width - LEFT) / 4, HEIGHT + 16 + index // 4 * 22
        out.append(f'<rect x="{x}" y="{y - 9}" width="12" height="10" fill="{colours[name]}"/>')
        out.append(f'<text x="{x + 18}" y="{y}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>", ""])

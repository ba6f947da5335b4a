"""One curve as an SVG that reads well on white and on black."""
import math

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 560, 300, 60, 46, 16, 20


def short(n):
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{n / size:g}{unit}"
    return f"{n:g}"


def chart(points, x_title, y_title, logarithmic):
    top = max(y for _, y in points) * 1.15
    scale = (lambda x: math.log10(max(x, 1))) if logarithmic else float
    low, high = scale(points[0][0]), scale(points[-1][0])

    def at(x, y):
        return (LEFT + (scale(x) - low) / (high - low) * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - y / top * (HEIGHT - BOTTOM - TOP))

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
             f'font-size="11" fill="#888"><title>{y_title} by {x_title}</title>']
    for i in range(5):
        value = top * i / 4
        y = at(points[0][0], value)[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#888" stroke-opacity=".3"/>'
                     f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for x, _ in points:
        parts.append(f'<text x="{at(x, 0)[0]:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{short(x)}</text>')
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*p) for p in points))
    parts.append(f'<polyline points="{line}" fill="none" stroke="#2a7de1" stroke-width="2"/>')
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#2a7de1"/>' for x, y in (at(*p) for p in points)]
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{x_title}</text>'
                 f'<text x="{LEFT}" y="{TOP - 5}">{y_title}</text></svg>\n')
    return "\n".join(parts)

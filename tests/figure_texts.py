"""What a reader of a figure meets: texts, their sizes, and which of them lie over each other."""

from itertools import combinations
from unittest.mock import patch

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

DPI, SLACK = 200, 1.0  # pixels


def texts(figure):
    """Each Text that is drawn, with its (x0, y0, x1, y1) in pixels at DPI."""
    figure.set_dpi(DPI)
    canvas, drawn, draw = FigureCanvasAgg(figure), {}, Text.draw

    def watched(text, renderer):
        if text.get_visible() and text.get_text().strip():
            drawn[text] = text.get_window_extent(renderer).extents
        return draw(text, renderer)

    with patch.object(Text, "draw", watched):
        canvas.draw()
    return list(drawn.items())


def check(figure):
    """Assert that no text is below 8 points, out of the figure, or over another."""
    found = texts(figure)
    width, height = figure.get_size_inches() * DPI
    assert found
    for text, (x0, y0, x1, y1) in found:
        assert text.get_fontsize() >= 8, text
        assert min(x0, y0, width - x1, height - y1) > -SLACK, text
    for (one, a), (other, b) in combinations(found, 2):
        across = min(a[2], b[2]) - max(a[0], b[0])
        along = min(a[3], b[3]) - max(a[1], b[1])
        assert min(across, along) < SLACK, (one.get_text(), other.get_text())

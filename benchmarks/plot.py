# SPDX-License-Identifier: Apache-2.0
"""Draws plots (SVG) that are readable on light and on dark pages."""

from pathlib import Path
from typing import Any

#: Colors on a light and on a dark page.
_colors = {
    "ink": ("#1c2733", "#d6deeb"),
    "blue": ("#1f77b4", "#6cb6ff"),
    "orange": ("#c45a00", "#ffa657"),
    "green": ("#2a8c2a", "#7ee787"),
    "red": ("#c62828", "#ff7b72"),
}

ink, blue, orange, green, red = (light for light, _ in _colors.values())


def subplots(*shape: int, **settings: Any) -> tuple[Any, Any]:
    """Does the same as ``pyplot.subplots()``, with a transparent background and text in the color of the
    page.
    """
    import matplotlib

    matplotlib.use("svg")
    of_ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
    transparent = ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor")
    matplotlib.rcParams.update(
        {
            **dict.fromkeys(of_ink, ink),
            **dict.fromkeys(transparent, "none"),
            "font.sans-serif": ["DejaVu Sans"],
            "axes.titlesize": "medium",
            "svg.fonttype": "none",  # text, not outlines: small files, and the reader's fonts
            "svg.hashsalt": "dynamo-llm",  # the same file for the same numbers
        }
    )
    from matplotlib import pyplot

    return pyplot.subplots(*shape, layout="constrained", **settings)


def save(figure: Any, path: Path) -> None:
    """Writes a figure of :func:`subplots` as an SVG, whose colors follow the color scheme of the page."""
    from matplotlib import pyplot

    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    text = path.read_text(encoding="utf-8").replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans'")
    for name, (light, _) in _colors.items():
        text = text.replace(light, f"var(--{name})")
    light, dark = ("; ".join(f"--{name}: {pair[i]}" for name, pair in _colors.items()) for i in (0, 1))
    style = f"<style>svg {{ {light} }} @media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}</style>"
    path.write_text(text.replace("<defs>", f"{style}\n <defs>", 1), encoding="utf-8")

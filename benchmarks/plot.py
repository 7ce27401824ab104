"""The most important figures as a picture for README.md."""

import statistics
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from benchmarks.targets import OURS
from benchmarks.work import Figures

PLOT = Path(__file__).with_name("results.svg")
PANELS = [
    ("memory", "upload", "upload, MB/s"),
    ("memory", "download", "download, MB/s"),
    ("memory", "get", "GET of 4 KiB, req/s"),
    ("memory", "post", "POST of 4 KiB, req/s"),
    ("disk", "upload", "upload to disk, MB/s"),
    ("disk", "post", "POST of 4 KiB to disk, req/s"),
]
COLOR, PEERS = "#1f6feb", "#b0b7c0"


def write(figures: Figures) -> None:
    """Draw a bar for each server in each panel."""
    # A fixed salt makes the file reproducible; fonttype `none` keeps text as text.
    matplotlib.rcParams.update({"svg.hashsalt": "wsgi_store", "svg.fonttype": "none", "font.size": 8})
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, (place, work, title) in zip(figure.subplots(3, 2).flat, PANELS, strict=True):
        medians = {
            key.server: statistics.median(values.values())
            for key, values in figures.items()
            if key[:2] == (place, work) and values
        }
        names = sorted(medians, key=medians.__getitem__)
        colors = [COLOR if name.startswith(OURS) else PEERS for name in names]
        bars = axes.barh(names, [medians[name] for name in names], color=colors)
        axes.bar_label(bars, fmt="{:,.0f}", padding=2)
        axes.set_title(title, loc="left", fontweight="bold")
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.set_xticks([])
        axes.margins(x=0.12)
    figure.savefig(PLOT, metadata={"Date": None})

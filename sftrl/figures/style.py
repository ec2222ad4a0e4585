"""One look for every figure, and one way to save it: the same table gives the same bytes, on any day.

Colours are seaborn's colour-blind palette; what a colour says is also said by a shape, a dash or an outline, so that
the figures survive a grey printer. Figures are made without pyplot: nothing stays open and nothing is shown twice.
"""

import functools
import io
import textwrap
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from sftrl.files import whole_file

COLOURS = sns.color_palette("colorblind").as_hex()
SFT, RL, LOSS, BEST, PALE = COLOURS[2], COLOURS[0], COLOURS[4], COLOURS[3], "#8c8c8c"
FAMILY_MARKERS = "osD^vP*X"
RC = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("paper"),
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same letters
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "font.size": 8,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    "svg.hashsalt": "sftrl",
}
DPI = 160
NO_DATES = {
    ".png": {"Software": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Run a drawing function in the house style, whatever style the caller has set."""

    @functools.wraps(draw)
    def inner(*args, **kwargs) -> Figure:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(RC)
            return draw(*args, **kwargs)

    return inner


def save(figure: Figure, folder: str | Path, name: str) -> list[Path]:
    """Write `folder/name.png` and `folder/name.pdf`, each whole, the same bytes for the same figure."""
    paths = [Path(folder) / f"{name}{ending}" for ending in NO_DATES]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        figure.draw_without_rendering()  # lay out once, not once a format
        figure.set_layout_engine("none")
        for path in paths:
            drawn = io.BytesIO()
            figure.savefig(drawn, format=path.suffix[1:], dpi=DPI, metadata=NO_DATES[path.suffix])
            with whole_file(path) as temporary:
                if path.suffix == ".png":
                    _in_few_colours(drawn).save(temporary, format="png", optimize=True, dpi=(DPI, DPI))
                else:
                    Path(temporary).write_bytes(drawn.getvalue())
    return paths


def _in_few_colours(drawn: io.BytesIO) -> Image.Image:
    """A palette of 256 colours is all that a plot needs, in a third of the bytes."""
    return Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)


def grid(count: int, *, columns: int, width: float, height: float, **kwargs) -> tuple[Figure, list[Axes]]:
    """Make a figure of `count` panels (`width` x `height` inches each) in rows of at most `columns`."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False, **kwargs)).ravel()
    for spare in axes[count:]:
        spare.set_visible(False)
    for lowest in axes[max(count - columns, 0) : count]:  # with a shared axis, only the last row has its numbers
        lowest.tick_params(labelbottom=True)
    return figure, list(axes[:count])


def wrapped(name: str, width: int = 28) -> str:
    """Break a long name over lines, at its own hyphens where it has them."""
    return "\n".join(textwrap.wrap(name, width))


def label(predictor: str) -> str:
    """Name a predictor as a reader would."""
    words = {
        "pass@": "Pass@",
        "extrapolated_Pass@": "extrapolated Pass@",
        "generalization_loss_example_mean": "loss (example mean)",
        "generalization_loss": "loss",
        "signal_share_rl": "GRPO signal (RL problems)",
        "signal_share": "GRPO signal",
        "sft_tokens": "SFT tokens",
    }
    for name, word in words.items():
        predictor = predictor.replace(name, word)
    return predictor.replace("_", " ")

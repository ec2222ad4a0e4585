"""One style for every figure, and one way to save it: a picture that looks the same is not overwritten.

Colours are seaborn's colour-blind palette, and each is paired with a shape, a dash or an outline, so that figures work
in greyscale. Figures are made without pyplot: nothing stays open and nothing is shown twice.
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
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image

from sftrl.files import whole_file
from sftrl.tables import predictor

COLOURS = sns.color_palette("colorblind").as_hex()
SFT_GREEN, RL_BLUE, LOSS_PINK, BEST_RED, PALE = COLOURS[2], COLOURS[0], COLOURS[4], COLOURS[3], "#8c8c8c"
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
PIXELS = 2.0e6  # a page of many panels has fewer of them an inch, and stays below 300 KB; its PDF has all detail
NO_DATES = {
    ".png": {"Software": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Run a drawing function in this package's style, whatever style the caller has set."""

    @functools.wraps(draw)
    def inner(*args, **kwargs) -> Figure:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(RC)
            return draw(*args, **kwargs)

    return inner


SAME = 24  # of 255: a pixel that differs by less was rounded otherwise by another machine


def save(figure: Figure, folder: str | Path, name: str) -> list[Path]:
    """Write `folder/name.png` and `folder/name.pdf`, atomically, unless the existing picture looks the same."""
    paths = [Path(folder) / f"{name}{ending}" for ending in NO_DATES]
    dpi = min(DPI, (PIXELS / figure.get_size_inches().prod()) ** 0.5)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        figure.draw_without_rendering()  # lay out once, not once a format
        figure.set_layout_engine("none")
        drawn = {path: io.BytesIO() for path in paths}
        for path, file in drawn.items():
            figure.savefig(file, format=path.suffix[1:], dpi=dpi, metadata=NO_DATES[path.suffix])
    png, pdf = paths
    # A palette of 256 colours is all that a plot needs, in a third of the bytes.
    picture = Image.open(drawn[png]).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    if not (pdf.exists() and png.exists() and looks_like(picture, Image.open(png))):
        with whole_file(png) as temporary:
            picture.save(temporary, format="png", optimize=True, dpi=(dpi, dpi))
        with whole_file(pdf) as temporary:
            temporary.write_bytes(drawn[pdf].getvalue())
    return paths


def looks_like(one: Image.Image, other: Image.Image) -> bool:
    """Whether two pictures have the same size and no pixel that differs by more than rounding."""
    if one.size != other.size:
        return False
    first, second = (np.asarray(picture.convert("RGB"), int) for picture in (one, other))
    return int(np.abs(first - second).max()) <= SAME


NARROWEST = 4.0  # inches that a legend of two columns needs


def grid(count: int, *, columns: int, width: float, height: float, **kwargs) -> tuple[Figure, list[Axes]]:
    """Make a figure of `count` panels (`width` x `height` inches) in rows of at most `columns`."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(columns * width, NARROWEST), rows * height), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False, **kwargs)).ravel()
    for spare in axes[count:]:
        spare.set_visible(False)
    for lowest in axes[max(count - columns, 0) : count]:  # with a shared axis, only the last row has its numbers
        lowest.tick_params(labelbottom=True)
    return figure, list(axes[:count])


def units(predictor_name: str) -> tuple[float, str]:
    """Return the display scale of a predictor, and its unit as a suffix for labels."""
    known = predictor(predictor_name)
    unit = known.unit if known else ""
    return (100.0 if unit == "%" else 1.0), (f", {unit}" if unit else "")


def log_scale(axes: Axes) -> None:
    """Make the horizontal axis logarithmic, with plain numbers at 1, 3 and 10."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def wrapped(name: str, width: int = 28) -> str:
    """Break a long name over lines, at its own hyphens where it has them."""
    return "\n".join(textwrap.wrap(name, width))

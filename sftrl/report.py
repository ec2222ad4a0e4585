"""`python -m sftrl.report runs/<study>`: the study's executed notebooks as one HTML page, `runs/<study>/report.html`.

The analysis comes first and open, then the notebooks in the order they ran, folded. The page stands alone: figures and
styles are inside.
"""

import html
import sys
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from traitlets.config import Config

from sftrl.errors import InputError
from sftrl.files import whole_file

STYLE = """
body { max-width: 1080px; margin: 2em auto; padding: 0 1em; font-family: system-ui, sans-serif; }
details { border-top: 1px solid #ccc; margin: 0; padding: .4em 0; }
summary { cursor: pointer; font-family: ui-monospace, monospace; }
iframe { width: 100%; height: 85vh; border: 0; }
"""
# As tall as what it shows, once that is there: one page to scroll, not a window in a window.
FIT = "this.style.height = this.contentDocument.body.scrollHeight + 40 + 'px'"
SHOWN = {"exclude_input_prompt": True, "exclude_output_prompt": True, "mathjax_url": "", "require_js_url": ""}


def write_report(folder: str | Path) -> Path:
    """Write `report.html` into a study's folder and return its path.

    Raises:
        InputError: the study has no executed notebook yet.
    """
    folder = Path(folder)
    # A run that failed leaves `*.failed.ipynb`, one at work `*.part.ipynb`: neither is a result.
    notebooks = [
        path
        for path in sorted((folder / "notebooks").rglob("*.ipynb"))
        if not path.stem.endswith((".failed", ".part")) and ".ipynb_checkpoints" not in path.parts
    ]
    if not notebooks:
        raise InputError(f"{folder / 'notebooks'}: no executed notebook; run the study first")
    exporter = HTMLExporter(
        config=Config({"HTMLExporter": SHOWN}),
        template_name="lab",
    )
    last = [path for path in notebooks if path.stem.startswith("05_")]
    parts = [f"<h1>Study {html.escape(folder.name)}</h1>"]
    for path in last + [path for path in notebooks if path not in last]:
        name = str(path.relative_to(folder / "notebooks").with_suffix(""))
        body, _ = exporter.from_notebook_node(nbformat.read(path, as_version=4))
        # A frame for each keeps the notebooks' styles, and their anchors, apart.
        frame = f'<iframe srcdoc="{html.escape(body)}" onload="{FIT}" loading="lazy"></iframe>'
        state = " open" if path in last else ""
        parts.append(f"<details{state}><summary>{html.escape(name)}</summary>{frame}</details>")
    head = f"<meta charset='utf-8'><title>{html.escape(folder.name)}</title><style>{STYLE}</style>"
    page = f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>"
    with whole_file(folder / "report.html") as temporary:
        temporary.write_text(page)
    return folder / "report.html"


if __name__ == "__main__":
    try:
        print(write_report(sys.argv[1]))
    except InputError as error:
        sys.exit(str(error))

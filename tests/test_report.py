"""The report as a reader uses it: clicked in Chromium, where that is installed, and made as narrow as a phone."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from sftrl.files import read_tables
from sftrl.predict import runs_table
from sftrl.report import write_report
from sftrl.stages import prediction
from sftrl.study import Study

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Sorts by Pass@1 twice, clicks the last point, and lays the page out at the width of a phone.
CLICKS = """<script>
const heads = [...document.querySelectorAll('th')], head = heads.find(h => h.textContent === 'Pass@1'), seen = {};
const rows = document.querySelector('tbody').rows;
const column = () => [...rows].map(row => parseFloat(row.cells[head.cellIndex].textContent));
head.click(); seen.down = column(); head.click(); seen.up = column();
const points = [...document.querySelectorAll('circle')];
points.at(-1).dispatchEvent(new MouseEvent('click')); seen.picked = document.getElementById('picked').textContent;
seen.links = [...document.querySelectorAll('nav a')].filter(a => document.querySelector(a.hash)).length;
seen.pictures = [...document.images].filter(i => i.complete && i.naturalWidth > 0).length;
const phone = document.createElement('iframe');
phone.width = 390;
phone.onload = () => {
  const page = phone.contentDocument.documentElement;
  seen.wide = page.scrollWidth - page.clientWidth;
  document.body.textContent = JSON.stringify(seen);
};
phone.srcdoc = document.documentElement.outerHTML.replace(/<script>[^]*?<\\/script>/g, '');
document.body.append(phone);
</script>"""


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Write the report of the committed tables and figures of `quick`, with one executed notebook."""
    tables = read_tables(ROOT / "figures" / "quick")
    said = {"runs": runs_table(tables["results"], tables["predictors"])} | tables
    judged = {"folder": ROOT / "figures" / "quick", "inputs": (), "key": "0123456789"}
    monkeypatch.setattr(prediction, "finished", lambda study: said)
    monkeypatch.setattr(prediction, "job", lambda study: SimpleNamespace(**judged))
    study = Study.load(ROOT / "params" / "quick.yaml")
    monkeypatch.chdir(tmp_path)
    cell = nbformat.v4.new_code_cell("1 + 1", outputs=[nbformat.v4.new_output("stream", text="it ran\n")])
    (study.folder / "notebooks").mkdir(parents=True)
    for name in ("05_predict", "base-0123456789", "base-abcdef0123"):  # the last is of other settings
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), study.folder / "notebooks" / f"{name}.ipynb")
    return write_report(study)


def shown(path: Path) -> str:
    """Return the page as Chromium has it once its scripts have run."""
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    result = subprocess.run([*words, path.resolve().as_uri()], capture_output=True, text=True, timeout=300, check=True)
    return result.stdout


def test_a_report_is_small_and_its_links_lead_somewhere(report):
    page = report.read_text()
    assert len(page) < 2_000_000
    links = re.findall(r"href='(notebooks/[^']+)'", page)
    assert links == ["notebooks/05_predict.html", "notebooks/base-0123456789.html"]
    assert all("it ran" in (report.parent / link).read_text() for link in links)
    assert page.index("class='answer'") < page.index("id='Runs'") < page.index("id='Limits'") < page.index("id='Note")
    assert "<script src" not in page  # it works without a network
    assert "https://" not in page


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_tables_sort_points_say_their_run_and_a_phone_needs_no_scrolling(report):
    clicked = report.with_name("clicked.html")
    clicked.write_text(report.read_text().replace("</body>", CLICKS + "</body>"))
    seen = json.loads(re.search(r"<body>(.*)</body>", shown(clicked), re.S)[1])
    assert len(seen["up"]) > 5
    assert seen["up"] == sorted(seen["up"])
    assert seen["down"] == seen["up"][::-1]
    assert re.fullmatch(r"\S+ \S+: [\d.]+ % to [\d.]+ %", seen["picked"])
    assert seen["links"] >= 4
    assert seen["pictures"] >= 6
    assert seen["wide"] <= 0
    assert "it ran" in shown(next(report.parent.glob("notebooks/*.html")))

"""A study as one page to send: `runs/<study>/report/index.html`, with the executed notebooks as pages beside it.

The answer comes first, then the runs, the figures, responses to look at, the settings in words, and what the study
cannot say. The page stands alone, and works without a network: figures, styles and its few lines of script are inside.
"""

import base64
import html
from pathlib import Path

import pandas as pd

from sftrl.files import whole_file
from sftrl.stages import evaluation, prediction, show
from sftrl.study import Study
from sftrl.tables import BASE, POST_SFT, RL_PROBLEMS

STYLE = """
body { max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: #222; }
.answer { font-size: 1.15rem; border-left: 4px solid #0173b2; padding-left: 1rem; }
.wide { overflow-x: auto; } img { max-width: 100%; height: auto; } svg { max-width: 36rem; width: 100%; }
table { border-collapse: collapse; font-size: .9rem; } td, th { padding: .2rem .6rem; text-align: right; }
td:first-child, th:first-child { text-align: left; } th { cursor: pointer; border-bottom: 1px solid #999; }
pre { white-space: pre-wrap; background: #f4f4f4; padding: .5rem; } details { margin: .3rem 0; }
"""
# A click on a head sorts by that column, a second one the other way round.
SCRIPT = """
for (const head of document.querySelectorAll('th')) head.onclick = () => {
  const table = head.closest('table'), at = head.cellIndex, body = table.tBodies[0];
  const down = head.dataset.down = head.dataset.down === '1' ? '' : '1';
  const value = row => { const t = row.cells[at].textContent, n = parseFloat(t); return isNaN(n) ? t : n; };
  const rows = [...body.rows].sort((a, b) => { const x = value(a), y = value(b);
    return (x > y) - (x < y) || 0; });
  for (const row of down ? rows.reverse() : rows) body.append(row);
};
"""
FIGURES = (
    "bars_loss", "bars", "decision", "strength", "regrets", "k_sweep", "passk_curves", "rl_curves", "sft_curves",
    "step_curves",
)  # fmt: skip


def write_report(study: Study) -> Path:
    """Write a study's report and return the path of its page.

    Raises:
        InputError: the study has not been judged yet.
    """
    said = prediction.finished(study)
    drawn = prediction.job(study).folder
    folder = study.folder / "report"
    parts = [
        f"<h1>{html.escape(study.name)}</h1><p class='answer'>{html.escape(prediction.answer(said))}</p>",
        "<h2>Runs</h2>" + _table(prediction.key_table(said)) + _scatter(said["runs"]),
        "<h2>Figures</h2>" + "".join(_picture(drawn / f"{name}.png") for name in FIGURES),
        "<h2>Responses</h2>" + _responses(study, said["results"]),
        "<h2>Settings</h2>" + _settings(study),
        "<h2>Limits</h2>" + _limits(study, said["runs"], said.get("ceiling")),
        "<h2>Notebooks</h2>" + _notebooks(study, folder),
    ]
    head = f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'><style>{STYLE}</style>"
    page = f"<!doctype html><html lang='en'><head><title>{html.escape(study.name)}</title>{head}</head>"
    with whole_file(folder / "index.html") as temporary:
        temporary.write_text(f"{page}<body>{''.join(parts)}<script>{SCRIPT}</script></body></html>", encoding="utf-8")
    return folder / "index.html"


def _table(table: pd.DataFrame) -> str:
    return f"<div class='wide'>{table.to_html(index=False, border=0, na_rep='–')}</div>"


def _picture(path: Path) -> str:
    if not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<p><img alt='{html.escape(path.stem)}' src='data:image/png;base64,{data}'></p>"


def _scatter(runs: pd.DataFrame) -> str:
    """Pass@1 before against after RL, a point a run that says its name on hover."""
    rows = runs.dropna(subset=["post_sft", "post_rl"])
    if rows.empty:
        return ""
    top = 100 * max(rows["post_sft"].max(), rows["post_rl"].max()) * 1.08
    width, height, edge = 480, 320, 40

    def place(x: float, y: float) -> tuple[float, float]:
        return edge + 100 * x / top * (width - edge - 10), height - edge - 100 * y / top * (height - edge - 10)

    points = []
    for row in rows.itertuples():
        x, y = place(row.post_sft, row.post_rl)
        words = f"{row.family} {row.run}: {100 * row.post_sft:.1f} % to {100 * row.post_rl:.1f} %"
        points.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='5' fill='#0173b2'><title>{words}</title></circle>")
    (x0, y0), (x1, y1) = place(0, 0), place(top / 100, top / 100)
    lines = f"<path d='M{x0} {y1}V{y0}H{x1}M{x0} {y0}L{x1} {y1}' fill='none' stroke='#999' stroke-dasharray='3'/>"
    labels = (
        f"<text x='{(x0 + x1) / 2}' y='{height - 8}' text-anchor='middle'>Pass@1 after SFT, % (to {top:.0f})</text>"
        f"<text transform='translate(14 {(y0 + y1) / 2}) rotate(-90)' text-anchor='middle'>Pass@1 after RL, %</text>"
    )
    return f"<svg viewBox='0 0 {width} {height}' font-size='12'>{lines}{labels}{''.join(points)}</svg>"


def _responses(study: Study, scores: pd.DataFrame) -> str:
    """A right, a wrong and a cut-off response of each benchmark, of the base and of the run with the best Pass@1."""
    family = study.families[0]
    first = scores[(scores["family"] == family) & (scores["phase"] == POST_SFT) & (scores["benchmark"] == "average")]
    parts = []
    for run in dict.fromkeys((BASE, first.sort_values("pass@1")["run"].iloc[-1])):
        problems = evaluation.problems(study, evaluation.job(study, family, POST_SFT, run))
        rows = show.graded(study, family, POST_SFT, run, None, problems[problems["benchmark"] != RL_PROBLEMS])
        shown = "".join(
            f"<details><summary>{html.escape(row.benchmark)}: {row.which}</summary><pre>{html.escape(row.problem)}\n\n"
            f"{html.escape(row.response)}</pre><p>read as {html.escape(str(row.answer))}, gold "
            f"{html.escape(str(row.gold))}</p></details>"
            for row in rows.itertuples()
        )
        parts.append(f"<details><summary>{html.escape(family)} {html.escape(run)}</summary>{shown}</details>")
    return "".join(parts)


def _settings(study: Study) -> str:
    params = study.params
    words = [f"Model families: {', '.join(study.families)}, {len(study.sft_runs)} SFT runs each."]
    if study.sft_runs:
        words.append(f"SFT: rate {params.sft.learning_rate:g}, batches of {params.sft.batch_size}.")
    if params.grpo:
        grpo = params.grpo
        length = f"{grpo.steps} steps" if grpo.steps else f"{grpo.epochs} epochs"
        words.append(
            f"GRPO: {length} of {grpo.prompts_per_step} prompts x {grpo.group_size} rollouts, rate "
            f"{grpo.learning_rate:g}, {grpo.scheduler}, up to {grpo.max_tokens} tokens."
        )
    how = params.evaluation
    words.append(
        f"Evaluation: {how.samples} samples a problem after SFT, {how.samples_post_rl} after RL, temperature "
        f"{how.temperature:g}, top-p {how.top_p:g}, up to {how.max_tokens} tokens, by {how.engine}."
    )
    return f"<p>{html.escape(' '.join(words))}</p><p>Every setting: params/{html.escape(study.name)}.yaml.</p>"


def _limits(study: Study, runs: pd.DataFrame, ceiling: pd.DataFrame | None) -> str:
    words = [f"{len(runs)} runs: an interval that holds 0 is no finding."]
    if runs["family"].nunique() == 1:
        words.append("One model family.")
    if ceiling is not None and len(ceiling) and isinstance(note := ceiling["note"].iloc[0], str) and note:
        words.append(f"Noise: {note}.")
    if study.params.evaluation.left_out_of_average:
        words.append(f"Outside the average: {', '.join(study.params.evaluation.left_out_of_average)}.")
    return f"<p>{html.escape(' '.join(words))}</p>"


def _notebooks(study: Study, folder: Path) -> str:
    """Turn the executed notebooks into pages of their own; return links to them."""
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab", exclude_input_prompt=True, exclude_output_prompt=True)
    links = []
    for path in sorted((study.folder / "notebooks").rglob("*.ipynb")):
        # A run that failed leaves `*.failed.ipynb`, one at work `*.part.ipynb`: neither is a result.
        if path.stem.endswith((".failed", ".part")) or ".ipynb_checkpoints" in path.parts:
            continue
        name = path.relative_to(study.folder / "notebooks").with_suffix(".html")
        body, _ = exporter.from_notebook_node(nbformat.read(path, as_version=4))
        with whole_file(folder / "notebooks" / name) as temporary:
            temporary.write_text(body, encoding="utf-8")
        links.append(f"<li><a href='notebooks/{html.escape(str(name))}'>{html.escape(str(name.with_suffix('')))}</a>")
    return f"<ul>{''.join(links)}</ul>"

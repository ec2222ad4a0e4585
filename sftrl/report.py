"""A study as one page to send: `runs/<study>/report/index.html`, with the executed notebooks as pages beside it.

The answer comes first, then the runs, the figures, responses to look at, the settings in words, and what the study
cannot say. The page stands alone, and works without a network: figures, styles and its few lines of script are inside.
"""

import base64
import html
import re
from pathlib import Path

import pandas as pd
from matplotlib.ticker import MaxNLocator

from sftrl.figures.style import COLOURS
from sftrl.files import whole_file
from sftrl.stages import evaluation, prediction, show
from sftrl.study import Study
from sftrl.tables import BASE, POST_SFT, RL_PROBLEMS

STYLE = """
body { max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: #222; }
nav { display: flex; flex-wrap: wrap; gap: 0 1rem; }
figure { margin: 1.5rem 0; } figcaption { color: #555; font-size: .9rem; }
.answer { font-size: 1.15rem; border-left: 4px solid #0173b2; padding-left: 1rem; }
.wide { overflow-x: auto; } img { max-width: 100%; height: auto; } svg { max-width: 36rem; width: 100%; }
table { border-collapse: collapse; font-size: .9rem; } td, th { padding: .2rem .6rem; text-align: right; }
td { white-space: nowrap; } td:first-child, th:first-child { text-align: left; }
th { cursor: pointer; border-bottom: 1px solid #999; } th[data-down='1']::after { content: ' ▾'; }
th[data-down='']::after { content: ' ▴'; } circle { cursor: pointer; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f4f4; padding: .5rem; }
details { margin: .3rem 0; } details details { margin-left: 1rem; } li { overflow-wrap: anywhere; }
"""
# A click on a column's head sorts by it, a second one the other way round; a click on a point says which run it is.
SCRIPT = """
const value = (row, at) => { const t = row.cells[at].textContent, n = parseFloat(t); return isNaN(n) ? t : n; };
for (const head of document.querySelectorAll('th')) head.onclick = () => {
  const body = head.closest('table').tBodies[0], at = head.cellIndex, down = head.dataset.down !== '1';
  for (const other of head.parentNode.cells) delete other.dataset.down;
  head.dataset.down = down ? '1' : '';
  const missing = row => row.cells[at].textContent === '–';
  const rows = [...body.rows].sort((a, b) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const x = value(a, at), y = value(b, at);
    return (down ? -1 : 1) * ((x > y) - (x < y));
  });
  body.append(...rows);
};
for (const point of document.querySelectorAll('circle'))
  point.onclick = () => document.getElementById('picked').textContent = point.textContent;
"""
FIGURES = {
    "bars_loss": "Pass@1 after SFT and after RL, beside the loss on held-out SFT examples",
    "bars": "Pass@1 after SFT and after RL",
    "strength": "How well each pre-RL metric predicts Pass@1 after RL",
    "regrets": "What choosing a checkpoint by each metric costs",
    "ladders": "Runs that differ in epochs: what SFT gained, and what is left of it after RL",
    "k_sweep": "Which k of Pass@k predicts best",
    "frontier": "What a race among checkpoints costs, and what it loses",
    "passk_curves": "Pass@k before and after RL",
    "rl_curves": "RL, by run",
    "sft_curves": "SFT, by run",
    "step_curves": "Metrics over the steps of a training",
}


def write_report(study: Study) -> Path:
    """Write a study's report and return the path of its page.

    Raises:
        InputError: the study has not been judged yet.
    """
    said = prediction.finished(study)
    drawn = prediction.job(study).folder
    folder = study.folder / "report"
    captions = FIGURES.copy()
    captions.pop("bars" if (drawn / "bars_loss.png").is_file() else "bars_loss")  # the one holds the other
    contents = {
        "Runs": _table(prediction.key_table(said)) + _scatter(said["runs"]),
        "Figures": "".join(_picture(drawn / f"{name}.png", caption) for name, caption in captions.items()),
        "Responses": _responses(study, said["results"]),
        "Settings": _settings(study),
        "Limits": _limits(study, said["runs"], said.get("ceiling")),
        "Notebooks": _notebooks(study, folder),
    }
    contents = {name: content for name, content in contents.items() if content}
    name, answer = html.escape(study.name), html.escape(prediction.answer(said))
    head = "<meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
    page = f"<!doctype html><html lang='en'><head>{head}<title>{name}</title><style>{STYLE}</style></head><body>"
    page += f"<h1>{name}: which SFT checkpoint should go to RL?</h1><p class='answer'>{answer}</p>"
    page += _picture(drawn / "decision.png", "The decision")
    page += "<nav>" + "".join(f"<a href='#{part}'>{part}</a>" for part in contents) + "</nav>"
    page += "".join(f"<h2 id='{part}'>{part}</h2>{content}" for part, content in contents.items())
    with whole_file(folder / "index.html") as temporary:
        temporary.write_text(f"{page}<script>{SCRIPT}</script></body></html>", encoding="utf-8")
    return folder / "index.html"


def _table(table: pd.DataFrame) -> str:
    words = {c: table[c].map("{:.3f}".format if c in ("loss", "entropy") else "{:.1f}".format) for c in _floats(table)}
    words = table.assign(**words).astype(object).where(table.notna(), "–")
    note = "Pass@k in %, with its 95 % interval over problems and samples; loss and entropy in nats/token."
    return f"<div class='wide'>{words.to_html(index=False, border=0)}</div><p>{note} Click a head to sort.</p>"


def _floats(table: pd.DataFrame) -> list[str]:
    return [c for c in table.select_dtypes("float") if not (table[c].dropna() % 1 == 0).all()]


def _picture(path: Path, caption: str) -> str:
    if not path.is_file():
        return ""
    data, caption = base64.b64encode(path.read_bytes()).decode(), html.escape(caption)
    return (
        f"<figure><img alt='{caption}' src='data:image/png;base64,{data}'><figcaption>{caption}</figcaption></figure>"
    )


def _scatter(runs: pd.DataFrame) -> str:
    """Pass@1 before against after RL, a point for each run that says its name on hover and on a click."""
    rows = runs.dropna(subset=["post_sft", "post_rl"])
    if rows.empty:
        return ""
    ticks = MaxNLocator(5).tick_values(0, 100 * max(rows["post_sft"].max(), rows["post_rl"].max()))
    width, height, edge, top = 480, 320, 44, ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        return edge + x / top * (width - edge - 12), height - edge - y / top * (height - edge - 12)

    families = list(rows["family"].unique())
    drawn = []
    for tick in ticks:
        (x, bottom), (left, y) = place(tick, 0), place(0, tick)
        drawn.append(f"<text x='{x:.1f}' y='{bottom + 15:.1f}' text-anchor='middle'>{tick:g}</text>")
        drawn.append(f"<text x='{left - 6:.1f}' y='{y + 4:.1f}' text-anchor='end'>{tick:g}</text>")
    (x0, y0), (x1, y1) = place(0, 0), place(top, top)
    drawn.append(f"<path d='M{x0} {y1}V{y0}H{x1}' fill='none' stroke='#444'/>")
    drawn.append(f"<path d='M{x0} {y0}L{x1} {y1}' stroke='#999' stroke-dasharray='3'/>")
    drawn.append(f"<text x='{(x0 + x1) / 2}' y='{height - 8}' text-anchor='middle'>Pass@1 after SFT, %</text>")
    drawn.append(
        f"<text transform='translate(12 {(y0 + y1) / 2}) rotate(-90)' text-anchor='middle'>Pass@1 after RL, %</text>"
    )
    for row in rows.itertuples():
        x, y = place(100 * row.post_sft, 100 * row.post_rl)
        words = html.escape(f"{row.family} {row.run}: {100 * row.post_sft:.1f} % to {100 * row.post_rl:.1f} %")
        colour = COLOURS[families.index(row.family) % len(COLOURS)]
        drawn.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='6' fill='{colour}'><title>{words}</title></circle>")
    picture = f"<svg viewBox='0 0 {width} {height}' font-size='12'>{''.join(drawn)}</svg>"
    hint = "Each point is a run; on the dashed line RL changes nothing. Point at one, or click it, for its name."
    return f"<figure>{picture}<figcaption id='picked'>{hint}</figcaption></figure>"


def _responses(study: Study, scores: pd.DataFrame) -> str:
    """A right, a wrong and a cut-off response of each benchmark, of the base and of the run with the best Pass@1."""
    family = study.families[0]
    first = scores[(scores["family"] == family) & (scores["phase"] == POST_SFT) & (scores["benchmark"] == "average")]
    parts = []
    for run in dict.fromkeys((BASE, first.sort_values("pass@1")["run"].iloc[-1])):
        job = evaluation.job(study, family, POST_SFT, run)
        if not job.inputs[0].folder.is_dir():  # as where only the tables of a study were fetched
            return ""
        problems = evaluation.problems(study, job)
        rows = show.graded(study, family, POST_SFT, run, None, problems[problems["benchmark"] != RL_PROBLEMS])
        shown = "".join(
            f"<details><summary>{html.escape(row.benchmark)}: {row.which}</summary><pre>{html.escape(row.problem)}\n\n"
            f"{html.escape(row.response)}</pre><p>answer {html.escape(str(row.answer))}, gold "
            f"{html.escape(str(row.gold))}</p></details>"
            for row in rows.itertuples()
        )
        parts.append(f"<details><summary>{html.escape(family)} {html.escape(run)}</summary>{shown}</details>")
    return "".join(parts)


def _settings(study: Study) -> str:
    params = study.params
    words = [f"Model families: {', '.join(study.families)}; SFT runs of each: {len(study.sft_runs)}."]
    if study.sft_runs:
        words.append(f"SFT: learning rate {params.sft.learning_rate:g}, batch size {params.sft.batch_size}.")
    if params.grpo:
        grpo = params.grpo
        length = f"{grpo.steps} steps" if grpo.steps else f"{grpo.epochs} epochs"
        words.append(
            f"GRPO: {length} of {grpo.prompts_per_step} prompts x {grpo.group_size} rollouts, learning rate "
            f"{grpo.learning_rate:g} ({grpo.scheduler}), up to {grpo.max_tokens} tokens."
        )
    how = params.evaluation
    words.append(
        f"Evaluation: {how.samples} samples per problem after SFT, {how.samples_post_rl} after RL, temperature "
        f"{how.temperature:g}, top-p {how.top_p:g}, up to {how.max_tokens} tokens, by {how.engine}."
    )
    return f"<p>{html.escape(' '.join(words))}</p><p>Every setting: params/{html.escape(study.name)}.yaml.</p>"


def _limits(study: Study, runs: pd.DataFrame, ceiling: pd.DataFrame | None) -> str:
    words = [f"{len(runs)} runs: a difference whose interval contains 0 is not a finding."]
    if runs["family"].nunique() == 1:
        words.append("One model family.")
    if ceiling is not None and len(ceiling) and isinstance(note := ceiling["note"].iloc[0], str) and note:
        words.append(f"Noise: {note}.")
    if study.params.evaluation.left_out_of_average:
        words.append(f"Outside the average: {', '.join(study.params.evaluation.left_out_of_average)}.")
    return f"<p>{html.escape(' '.join(words))}</p>"


def _notebooks(study: Study, folder: Path) -> str:
    """Turn the executed notebooks of the study as it is now into pages of their own; return links to them."""
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab", exclude_input_prompt=True, exclude_output_prompt=True)
    links, keys = [], {job.key for job in prediction.every_job(study)}
    for path in sorted((study.folder / "notebooks").rglob("*.ipynb")):
        # A run that failed leaves `*.failed.ipynb`, one at work `*.part.ipynb`: neither is a result.
        if path.stem.endswith((".failed", ".part")) or ".ipynb_checkpoints" in path.parts:
            continue
        if (key := re.search(r"-([0-9a-f]{10})$", path.stem)) and key[1] not in keys:  # made with other settings
            continue
        name = path.relative_to(study.folder / "notebooks").with_suffix(".html")
        body, _ = exporter.from_notebook_node(nbformat.read(path, as_version=4))
        with whole_file(folder / "notebooks" / name) as temporary:
            temporary.write_text(body, encoding="utf-8")
        links.append(f"<li><a href='notebooks/{html.escape(str(name))}'>{html.escape(str(name.with_suffix('')))}</a>")
    return f"<ul>{''.join(links)}</ul>" if links else ""

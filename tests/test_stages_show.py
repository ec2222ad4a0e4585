"""What a notebook shows: tables with numbers as people read them; a finished study is read, not judged again."""

from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from simulated import study as simulated

from sftrl.chat import encode_prompt
from sftrl.errors import InputError
from sftrl.files import read_table, read_tables, write_table
from sftrl.models import load_tokenizer
from sftrl.predict import advice_on_pairs, analyse
from sftrl.recipes import Checkpoint, Judging
from sftrl.stages import manifest, prediction, show
from sftrl.study import Study

ROOT = Path(__file__).resolve().parent.parent
QUICK = ROOT / "figures" / "quick"


@pytest.fixture
def finished(monkeypatch):
    """Read the committed tables of `quick` as those of a finished job; anything that would judge again fails."""
    monkeypatch.setattr(prediction, "job", lambda study: SimpleNamespace(folder=QUICK))
    monkeypatch.setattr(manifest, "read", lambda folder: {})
    monkeypatch.setattr(prediction, "analyse", None)
    study, work = Study.load(ROOT / "params" / "quick.yaml"), SimpleNamespace(done={"id": ""}, folder=QUICK)
    return prediction.analysis(study, prediction.tables(study, work), work)


def test_a_finished_study_gives_the_answer_that_was_written_when_it_was_judged(finished):
    assert prediction.answer(finished) == (QUICK / "README.md").read_text().split("\n\n", 1)[1].strip()
    assert not set(prediction.MEASURED) & set(finished)


@pytest.mark.parametrize("study", ["controls", "gates", "gates-hot", "gates-warm"])
def test_too_few_runs_for_a_decision_still_say_what_rl_made_of_the_sharpened(study):
    folder = ROOT / "figures" / study
    tables = read_tables(folder)
    assert "decision" not in tables
    told = prediction.answer(tables)
    assert told == (folder / "README.md").read_text().split("\n\n", 1)[1].strip()
    few = "Too few runs to decide among."
    assert told.startswith(f"{few} In ")
    assert prediction.answer({}) == few


def test_pairs_in_words():
    rows = {"kind": "all", "outcome": "post_rl", "change": -0.0584, "low": -0.08, "high": -0.04}
    one = pd.DataFrame([rows | {"family": "a", "pairs": 1, "pairs_low": np.nan, "pairs_high": np.nan}])
    assert advice_on_pairs(one) == (
        "In 1 pair of runs one has the higher Pass@1 and the lower Pass@k after SFT: RL from it ends 5.8 points "
        "lower than from the other (change -8.0 to -4.0, 95 % interval over problems)."
    )
    both = pd.concat(
        [one, pd.DataFrame([rows | {"family": "all", "pairs": 15, "pairs_low": -0.114, "pairs_high": 0.01}])]
    )
    assert advice_on_pairs(both).startswith("In 15 pairs of runs")
    assert advice_on_pairs(both).endswith("(change -11.4 to +1.0, 95 % interval over pairs).")


def test_the_key_table_is_in_percent_best_after_rl_first(finished):
    table = prediction.key_table(finished)
    best = finished["runs"].sort_values("post_rl").iloc[-1]
    assert table["run"].iloc[0] == best["run"]
    assert table["Pass@1"].iloc[0] == round(100 * best["pass@1"], 1)
    low, high = table["95 %"].iloc[0].split(" to ")
    assert float(low) < table["Pass@1"].iloc[0] < float(high)
    assert "family" not in table  # there is one


def test_predictors_stand_by_their_rank_correlation_and_a_pool_can_be_chosen(finished, capsys):
    table = show.judged(finished, "dataset")
    assert len(table.columns) == 10
    assert table["Spearman"].abs().is_monotonic_decreasing
    assert set(table["n"]) == {5}
    assert "pools: all, dataset" in capsys.readouterr().out
    assert show.compared(finished)["p"].is_monotonic_increasing
    assert show.regret(finished)["regret"].is_monotonic_increasing
    with pytest.raises(InputError, match="pool: 'al' is not one of all, dataset"):
        show.judged(finished, "al")


def test_nothing_to_judge_is_a_line_and_no_table(capsys):
    assert show.judged({}) is None
    assert "too few runs have been through RL" in capsys.readouterr().out


def test_texts_keep_line_breaks_and_what_html_would_take_for_its_own():
    shown = show.texts(pd.DataFrame({"problem": ["a < b\nA. 1", None], "n": [1, 2]})).data
    assert "a &lt; b\nA. 1" in shown
    assert "<td>–</td>" in shown


def test_rollouts_are_a_right_and_a_wrong_one_of_each_prompt_first_and_last(tmp_path):
    rows = [
        {"step": step, "prompt": prompt, "response": f"{step} {prompt} {i}", "reward": float(i % 2), "tokens": 3}
        for step in (1, 5, 9)
        for prompt in ("p", "q")
        for i in range(4 if prompt == "p" else 1)
    ]
    write_table(pd.DataFrame(rows), tmp_path / "rollouts.parquet")
    shown = show.rollouts(tmp_path)
    assert list(shown["response"]) == ["1 p 0", "1 p 1", "1 q 0", "9 p 0", "9 p 1", "9 q 0"]


def test_regret_and_order_as_they_are_read():
    results, predictors = simulated(8)
    how = {"names": ["pass@1", "pass@64"], "splits": 5, "judging": Judging(resamples=50)}
    said = analyse(results.assign(sampled_tokens=1234.4), predictors, **how)
    shown = show.regret(said).set_index("predictor")
    assert shown.loc[["Pass@1", "Pass@64", "random choice"], "tokens a run"].tolist() == [1234, 1234, 0]
    places = show.order(said).set_index("predictor")
    assert places["place"].to_dict() == {"Pass@64": 1, "Pass@1": 2}  # of this study Pass@64 tells the result
    assert list(places["without one run"]) == ["1 to 1", "2 to 2"]
    assert list(places["without one benchmark"]) == ["1 to 1", "2 to 2"]
    assert show.order(said, "dataset").empty


def test_tables_of_before_the_costs_are_shown_without():
    said = analyse(*simulated(8), names=["pass@1"], splits=5, judging=Judging(resamples=50))
    assert pd.isna(said["regret"]["tokens"].iloc[1])
    said["regret"] = said["regret"].drop(columns="tokens")
    assert "tokens a run" not in show.regret(said)


def test_an_example_is_shown_as_the_model_reads_it(capsys, monkeypatch):
    """Special tokens too, and no token that the text does not hold: the ids, decoded, are what is printed."""
    monkeypatch.chdir(ROOT)
    plan = Study.load("params/quick.yaml")
    show.encoded(plan, plan.families[0], "a=1; solve a?", "so \\boxed{1}")
    prompt, response = capsys.readouterr().out.splitlines()
    tokenizer = load_tokenizer(Checkpoint(model="models/qwen3-tiny"))
    assert prompt.endswith(repr(tokenizer.decode(encode_prompt(tokenizer, "a=1; solve a?"))))
    assert response.endswith(repr("so \\boxed{1}" + tokenizer.eos_token))
    count = len(tokenizer("so \\boxed{1}", add_special_tokens=False)["input_ids"]) + 1
    assert response.startswith(f"response, {count} tokens")


def test_a_study_of_too_few_runs_for_an_order_is_shown_without():
    said = analyse(*simulated(2), splits=5, judging=Judging(resamples=50))
    assert show.order(said).empty
    written = said["order"].to_csv(index=False)  # and as 05 reads it again
    assert show.order({"order": pd.read_csv(StringIO(written))}).empty


def test_a_large_table_is_kept_with_fewer_digits_or_in_parts_and_a_small_one_as_it_is(tmp_path, monkeypatch):
    table = pd.DataFrame({"run": ["r", "r", "of a long name"] * 4, "x": [1.23456789, 0.000123456789, 12345.6789] * 4})
    path = tmp_path / "table.csv"
    write_table(table, path)
    before = path.read_bytes()
    prediction._shorten(path)
    assert path.read_bytes() == before
    monkeypatch.setattr(prediction, "SMALL", len(before) - 1)
    prediction._shorten(path)
    assert len(path.read_bytes()) < len(before)
    assert read_table(path)["x"].tolist() == [1.23457, 0.000123457, 12345.7] * 4
    monkeypatch.setattr(prediction, "SMALL", 80)
    prediction._shorten(path)
    parts = list(tmp_path.iterdir())
    assert len(parts) > 2
    assert all(part.stat().st_size <= 80 for part in parts)
    assert read_table(path)["x"].tolist() == [1.23457, 0.000123457, 12345.7] * 4
    pd.testing.assert_frame_equal(read_tables(tmp_path)["table"], read_table(path))


def test_many_changed_files_are_told_by_their_folders():
    few, many = ["sftrl/chat.py", "notebooks/02_sft.ipynb"], [f"sftrl/loss/{name}.py" for name in "abcdef"]
    assert "of notebooks/02_sft.ipynb, sftrl/chat.py; they" in prediction.code_changes({"a": few, "b": few[:1]})
    assert prediction.code_changes({"a": few, "b": many}).startswith(
        "2 finished jobs were made by another version of notebooks, sftrl, sftrl/loss; they"
    )

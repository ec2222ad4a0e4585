"""What 05_predict shows of the judgements, in words and percent."""

import pandas as pd
from simulated import study

from sftrl.predict import analyse
from sftrl.recipes import Judging
from sftrl.stages import show


def test_regret_and_order_as_they_are_read():
    results, predictors = study(8)
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
    said = analyse(*study(8), names=["pass@1"], splits=5, judging=Judging(resamples=50))
    assert pd.isna(said["regret"]["tokens"].iloc[1])
    said["regret"] = said["regret"].drop(columns="tokens")
    assert "tokens a run" not in show.regret(said)

"""A study on the Hugging Face hub: checkpoints, samples and tables in one repository, with a card that says what it is.

    python -m sftrl.hub push quick name/sftrl-quick
    python -m sftrl.hub pull quick name/sftrl-quick

`push` adds `runs/<study>` and `figures/<study>` to a data set repository, which it makes if need be, private unless
`--public`. Manifests are uploaded last, so that an interrupted push leaves no job that looks finished; the next push
skips files that are there already. `pull` restores them where the study's jobs look for them.
"""

import argparse
import shutil
import sys
from pathlib import Path

import pandas as pd
from huggingface_hub import CommitOperationAdd, HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from sftrl.errors import InputError
from sftrl.files import read_table, whole_folder

FILES_A_COMMIT = 200
LEFT_OUT = {"locks", "trainer", "notebooks"}  # who was filling a store, states of unfinished trainings, logs


def push(study: str, repo: str, *, public: bool = False) -> str:
    """Send a study's files and a card; return the repository's address.

    Raises:
        InputError: the study has no results yet, or the hub refuses: no token, no right to write, no such name.
    """
    text = card(study)
    api = HfApi()
    try:
        url = api.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True)
        waiting = sorted(_files(study), key=lambda path: (path.name == "manifest.json", path))
        for start in range(0, len(waiting), FILES_A_COMMIT):
            part = waiting[start : start + FILES_A_COMMIT]
            added = [CommitOperationAdd(path.as_posix(), path) for path in part]
            named = f"{study}: files {start + 1} to {start + len(part)} of {len(waiting)}"
            api.create_commit(repo, added, commit_message=named, repo_type="dataset")
            print(named, flush=True)
        added = [CommitOperationAdd("README.md", text.encode())]
        api.create_commit(repo, added, commit_message=f"{study}: card", repo_type="dataset")
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError) as error:
        raise InputError(f"{repo}: {str(error).strip().splitlines()[0]}") from None
    return str(url)


def pull(study: str, repo: str, *, revision: str | None = None) -> None:
    """Fetch a study's files; what is there already is never replaced.

    Raises:
        InputError: the study has runs here already, or the repository none; the hub refuses.
    """
    places = [Path("runs") / study, Path("figures") / study]
    if places[0].exists():
        raise InputError(f"{places[0]}: is there already; move it away, or pull elsewhere")
    wanted = [f"{place.as_posix()}/**" for place in places]
    try:
        found = Path(snapshot_download(repo, repo_type="dataset", revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError) as error:
        raise InputError(f"{repo}: {str(error).strip().splitlines()[0]}") from None
    if not (found / places[0]).is_dir():
        raise InputError(f"{repo}: holds no {places[0]}")
    for place in places:
        if place.exists():
            print(f"{place}: is there already, left as it is")
        elif (found / place).is_dir():
            with whole_folder(place) as temporary:
                shutil.copytree(found / place, temporary, dirs_exist_ok=True)
            print(f"{place}: pulled")


def card(study: str) -> str:
    """Return the card: each run's scores over the benchmarks' average, its loss, and how they were measured."""
    results = read_table(Path("figures") / study / "results.csv")
    predictors = read_table(Path("figures") / study / "predictors.csv")
    rows = results[results["benchmark"] == "average"].merge(predictors, on=["family", "run"], how="left")
    sizes = [int(column[5:]) for column in rows if column.startswith("pass@") and column[5:].isdigit()]
    shown = ["family", "run", "phase", "rl_seed", "problems", "samples"]
    lines = [[*shown, "Pass@1 (95 %)", f"Pass@{max(sizes)}", "held-out loss"]]
    for row in rows.to_dict("records"):
        scores = [
            f"{row['pass@1']:.3f} ({row['pass@1_low']:.3f} to {row['pass@1_high']:.3f})",
            row[f"pass@{max(sizes)}"],
        ]
        loss = row.get("generalization_loss") if row["phase"] == "post_sft" else None
        lines.append([*(row[name] for name in shown), *scores, loss])
    table = ["| " + " | ".join(map(_cell, line)) + " |" for line in lines]
    table.insert(1, "|" + "---|" * len(lines[0]))
    how = ", ".join(
        f"{name} {_cell(value)}"
        for name in ("temperature", "top_p", "max_tokens", "verifier_version")
        for value in rows[name].unique()
    )
    return f"""---
tags: [sft, grpo, pass-at-k]
---
# {study}: which SFT checkpoint should go to RL?

Checkpoints, graded samples and tables of a study made with sftrl: `runs/{study}` and `figures/{study}`. Put them back
with `python -m sftrl.hub pull {study} <this repository>`. Samples are Parquet: `runs/{study}/**/samples/*/*.parquet`.

Means over the benchmarks; intervals over problems and samples. {how}. Of samples, the smallest number of a problem.

""" + "\n".join([*table, ""])


def _cell(value: object) -> str:
    if value is None or pd.isna(value):
        return ""
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return str(value)


def _files(study: str) -> list[Path]:
    """List what is worth keeping of a study."""
    paths = [path for top in ("runs", "figures") for path in (Path(top) / study).rglob("*") if path.is_file()]
    return [
        path
        for path in paths
        if path.suffix != ".damaged" and not any(p in LEFT_OUT or p.startswith(".") for p in path.parts)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sftrl.hub", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["push", "pull"])
    parser.add_argument("study")
    parser.add_argument("repo", help="<user or organisation>/<name>")
    parser.add_argument("--public", action="store_true", help="push: a new repository is for everyone to read")
    parser.add_argument("--revision", help="pull: a branch, tag or commit")
    given = parser.parse_args(arguments)
    try:
        if given.command == "push":
            print(push(given.study, given.repo, public=given.public))
        else:
            pull(given.study, given.repo, revision=given.revision)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

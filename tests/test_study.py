"""A study's params: every mistake is named before anything runs; jobs depend on what they read and on nothing else."""

from pathlib import Path

import pytest
import yaml

from sftrl import stages
from sftrl.errors import InputError
from sftrl.study import Study
from sftrl.study.params import check

ROOT = Path(__file__).resolve().parent.parent


def smoke(**changes) -> dict:
    values = yaml.safe_load((ROOT / "params" / "smoke.yaml").read_text())
    for path, value in changes.items():
        *sections, key = path.split("__")
        place = values
        for section in sections:
            place = place[section]
        if value is ...:
            del place[key]
        else:
            place[key] = value
    return values


def study(**changes) -> Study:
    return Study(check(smoke(**changes), "test"))


@pytest.mark.parametrize("path", sorted((ROOT / "params").glob("*.yaml")), ids=lambda p: p.stem)
def test_committed_params_are_valid_and_named_by_their_file(path):
    assert check(yaml.safe_load(path.read_text()), path.name).study == path.stem


SLIPS = [
    # an unknown key, at the top and inside a section, with the nearest known one
    ({"grpoo": {}}, "grpoo: unknown key (did you mean 'grpo'?)"),
    ({"sft__learning_rat": 0.1}, "sft.learning_rat: unknown key (did you mean 'learning_rate'?)"),
    # YAML reads 1e-5 as text, and papermill passes it on
    ({"sft__learning_rate": "1e-5"}, "sft.learning_rate: '1e-5' is not a number; YAML reads it as text, write 1.0e-05"),
    ({"grpo__steps": "many"}, "grpo.steps: 'many' is not a number"),
    # sizes that cannot be
    ({"grpo__group_size": 1}, "grpo.group_size: 1 should be greater than or equal to 2"),
    ({"sft__batch_size": -4}, "sft.batch_size: -4 should be greater than or equal to 1"),
    ({"evaluation__top_p": 1.5}, "evaluation.top_p: 1.5 should be less than or equal to 1"),
    ({"evaluation__samples": 2.5}, "evaluation.samples: 2.5 should be a valid integer"),
    # a missing section, and a missing key in one
    ({"families": ...}, "families: missing"),
    ({"grpo__steps": ...}, "grpo: give either 'steps' or 'epochs'"),
    # values out of a list
    ({"evaluation__engine": "sglang"}, "evaluation.engine: 'sglang' should be 'transformers' or 'vllm'"),
    # what does not go together
    ({"runs": [{"selection": "random"}]}, "runs.0: a run needs 'selection', 'examples' and 'epochs'"),
    ({"runs": [{"selection": "random", "examples": 8, "epochs": 1}] * 2}, "'runs' holds 'random-8-1ep' twice"),
    ({"families": {"x": {}}}, "families.x: give either 'model' or 'scratch'"),
    ({"data__rl": ...}, "data.rl: missing, and the study has RL"),
    ({"evaluation__adaptive": {"k": 4, "half_width": 0.01}}, "'adaptive' with k = 4 needs 'samples' of 2k or more"),
    ({"grpo": ..., "data__rl": ...}, "data.rl: missing, and 'evaluation.rl_problems' asks for some"),
    ({"runs": [{"selection": "random", "examples": 8, "epochs": 1, "dtype": "auto"}]}, "'dtype' is for a checkpoint"),
    ({"families": {"x": {"scratch": {"architecture": "llama", "hidden_size": 48}}}}, "hidden_size: 48 should be a mul"),
    ({"grpo": ..., "runs": [{"name": "a", "model": "b", "rl_seeds": [1]}]}, "a has 'rl_seeds', and the study has no"),
    ({"runs": [{"selection": "self", "examples": 8, "epochs": 1}]}, "'temperature' is for selection 'self'"),
    ({"grpo__probes": {"at": [0, 9]}}, "grpo: probes.at: 9 is beyond the last of 3 steps"),
    ({"data__prompt": "Solve it."}, "data: 'prompt' must contain {problem}"),
]


@pytest.mark.parametrize(("change", "message"), SLIPS, ids=[m[:40] for _, m in SLIPS])
def test_slip_is_named(change, message):
    with pytest.raises(InputError) as error:
        check(smoke(**change), "params/x.yaml")
    assert message in str(error.value)
    assert str(error.value).startswith("params/x.yaml: ")


def test_several_slips_are_all_named():
    with pytest.raises(InputError, match=r"(?s)sft\.batch_size.*grpo\.steps"):
        check(smoke(sft__batch_size=0, grpo__steps=0), "x")


@pytest.mark.parametrize("text", ["study: [", "- a list"])
def test_a_file_that_is_no_mapping(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError, match=r"x\.yaml"):
        Study.load(tmp_path / "x.yaml")


def test_unknown_names_are_named():
    plan = study()
    for call in (
        lambda: plan.run("random-9k-1ep"),
        lambda: plan.family("gpt"),
        lambda: plan.rl_seed("post_rl", "base", 7),
        lambda: stages.evaluation.job(plan, "llama-smoke", "post_training", "base"),
        lambda: stages.evaluation.job(plan, "llama-smoke", "post_sft", "base", shard=2, of=2),
        lambda: stages.sft.job(plan, "llama-smoke", "base"),
    ):
        with pytest.raises(InputError):
            call()


LABELS = [
    ({"selection": "random", "examples": 10_000, "epochs": 3}, "random-10k-3ep"),
    ({"selection": "shortest", "examples": 250, "epochs": 1}, "shortest-250-1ep"),
    ({"selection": "mixed", "examples": 1500, "epochs": 1, "learning_rate": 2.0e-5}, "mixed-1500-1ep-lr2e-05"),
    ({"selection": "random", "examples": 8, "epochs": 1, "data_seed": 3}, "random-8-1ep-d3"),
    ({"selection": "self", "temperature": 0.3, "examples": 8, "epochs": 1}, "self0.3-8-1ep"),
    ({"name": "mine", "model": "some/model"}, "mine"),
]


@pytest.mark.parametrize(("run", "label"), LABELS, ids=[label for _, label in LABELS])
def test_labels(run, label):
    assert list(study(runs=[run]).runs) == ["base", label]


def test_a_setting_changes_the_key_of_what_depends_on_it_and_of_nothing_else():
    run, family = "random-64-1ep", "llama-smoke"

    def keys(plan: Study) -> dict:
        return {
            "base": stages.base.job(plan, family).key,
            "curate": stages.curation.job(plan).key,
            "sft": stages.sft.job(plan, family, run).key,
            "held_out": stages.held_out.job(plan, family, run).key,
            "grpo": stages.grpo.job(plan, family, run, 0).key,
            "post_sft": stages.evaluation.job(plan, family, "post_sft", run).key,
            "post_rl": stages.evaluation.job(plan, family, "post_rl", run, 0).key,
            "predict": stages.prediction.job(plan).key,
        }

    def changed(**changes) -> set[str]:
        before, after = keys(study()), keys(study(**changes))
        return {name for name in before if before[name] != after[name]}

    after_sft = {"held_out", "grpo", "post_sft", "post_rl", "predict"}
    assert changed() == set()
    assert changed(grpo__learning_rate=0.5) == {"grpo", "post_rl", "predict"}
    assert changed(sft__learning_rate=0.5) == {"sft", *after_sft}
    assert changed(evaluation__samples=8) == {"post_sft", "predict"}
    assert changed(evaluation__samples_post_rl=8) == {"post_rl", "predict"}
    assert changed(evaluation__loss_token_budget=512) == {"held_out", "post_sft", "predict"}
    assert changed(predict__resamples=9) == {"predict"}
    assert changed(data__held_out=16) == {"curate", "sft", *after_sft}
    assert changed(seed=5) == set(keys(study()))
    # another run of the grid changes no job of this one
    more = [*smoke()["runs"], {"selection": "longest", "examples": 8, "epochs": 1}]
    assert changed(runs=more) == {"predict"}


def test_another_model_at_the_same_place_is_another_input(tmp_path):
    def key() -> str:
        stages.job._content.cache_clear()
        runs = [{"name": "mine", "model": str(tmp_path)}]
        return stages.evaluation.job(study(runs=runs), "llama-smoke", "post_sft", "mine").key

    (tmp_path / "config.json").write_text("{}")
    first = key()
    assert key() == first
    (tmp_path / "config.json").write_text('{"changed": true}')
    assert key() != first


def test_a_run_with_no_rl_seeds_is_not_taken_through_rl():
    runs = [{"selection": "random", "examples": 8, "epochs": 1, "rl_seeds": []}]
    plan = study(runs=runs)
    assert plan.rl_seeds("random-8-1ep") == []
    assert plan.rl_seeds("base") == [0]
    assert ("random-8-1ep", "post_sft", None) in stages.evaluation.all_of(plan, "llama-smoke")
    assert not any(
        run == "random-8-1ep" and seed == 0 for run, _, seed in stages.evaluation.all_of(plan, "llama-smoke")
    )


def test_a_checkpoint_of_ones_own_may_have_its_result_of_rl():
    runs = [{"name": "mine", "model": "a/b", "revision": "v1", "post_rl": "a/b-rl"}, {"name": "other", "model": "c"}]
    plan = study(runs=runs, grpo=..., evaluation__rl_problems=0)
    before, made_by = stages.evaluation.checkpoint(plan, "llama-smoke", "mine", None)
    assert (before.model, before.revision, made_by) == ("a/b", "v1", ())
    after, made_by = stages.evaluation.checkpoint(plan, "llama-smoke", "mine", 0)
    assert (after.model, made_by) == ("a/b-rl", ())
    assert plan.rl_seeds("other") == []


def test_generated_maths_takes_steps_and_order_and_a_default_changes_no_key():
    plan = study(data__benchmarks={"procedural": 6, "steps": [2, 4], "ordered": True})
    problems = stages.curation.benchmarks(plan)
    assert "choice" not in set(problems["benchmark"])
    plain, off = study(), study(data__rl={"procedural": 64, "ordered": False})
    assert stages.curation.job(plain).key == stages.curation.job(off).key != stages.curation.job(plan).key
    with pytest.raises(InputError, match="'steps' is for 'benchmarks' and 'rl'"):
        study(data__sft={"procedural": 300, "steps": [1, 2]})


def test_a_base_takes_styles():
    scratch = smoke()["families"]["llama-smoke"]["scratch"] | {
        "examples": 60,
        "styles": {"hasty": 1.0},
        "ordered": True,
    }
    plan = study(families={"x": {"scratch": scratch}})
    job = stages.base.job(plan, "x")
    work = stages.job.Work(job, {}, {"wall_seconds": 0})
    assert "hasty" in set(stages.base.texts(plan, "x", work)["source"])


def test_a_pattern_of_checkpoints_is_a_run_a_step(tmp_path):
    for step in (20, 100, 5):
        (tmp_path / f"checkpoint-{step}").mkdir()
    plan = study(runs=[{"name": "sft", "model": f"{tmp_path}/checkpoint-*"}])
    assert list(plan.runs) == ["base", "sft-5", "sft-20", "sft-100"]
    assert plan.run("sft-20").model == f"{tmp_path}/checkpoint-20"
    with pytest.raises(InputError, match=r"no folder matches .*/nothing-\*"):
        study(runs=[{"name": "sft", "model": f"{tmp_path}/nothing-*"}])


def test_a_star_within_a_path_stands_for_one_folder(tmp_path):
    (tmp_path / "1a2b" / "model").mkdir(parents=True)
    assert study(runs=[{"name": "mine", "model": f"{tmp_path}/*/model"}]).run("mine").model == f"{tmp_path}/1a2b/model"
    (tmp_path / "3c4d" / "model").mkdir(parents=True)
    with pytest.raises(InputError, match=r"2 folders match .*/\*/model: .*1a2b/model, .*3c4d/model"):
        study(runs=[{"name": "mine", "model": f"{tmp_path}/*/model"}])


def test_seeds_differ_by_use_and_repeat():
    plan = study()
    uses = [("sft", "llama-smoke", r) for r in plan.runs] + [
        ("grpo", "llama-smoke", r, s) for r in plan.runs for s in (0, 1)
    ]
    seeds = [plan.seed(*use) for use in uses]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [study().seed(*use) for use in uses]
    assert study(seed=1).seed("sft") != plan.seed("sft")


def test_a_name_that_the_study_does_not_have_is_refused():
    with pytest.raises(InputError, match=r"^run: 'random-9k-1ep' is not one of base, random-64-1ep"):
        study().run("random-9k-1ep")
    with pytest.raises(InputError, match=r"^family: 'gpt' is not one of llama-smoke"):
        study().family("gpt")


class TestFromNotebook:
    """What papermill injects stands in a cell headed `# Parameters`; papermill itself only warns of unknown names."""

    cells = ("", 'study = "smoke"\nsft = None\nfamilies = None', "from sftrl.study import Study")

    def test_reads_the_params_file(self):
        plan = Study.from_notebook({"In": list(self.cells), "study": "smoke", "sft": None})
        assert plan.name == "smoke"

    def test_a_section_is_merged_into_the_files_key_by_key(self):
        plan = Study.from_notebook({"In": [], "study": "smoke", "seed": 9, "sft": {"learning_rate": 0.25}})
        assert (plan.params.seed, plan.params.sft.learning_rate, plan.params.sft.max_length) == (9, 0.25, 256)
        assert not plan.is_committed

    def test_a_change_is_merged_last(self):
        change = {"grpo": {"steps": 1}, "evaluation": {"adaptive": None}}
        plan = Study.from_notebook({"In": [], "study": "smoke", "change": change})
        assert (plan.params.grpo.steps, plan.params.grpo.group_size) == (1, 4)
        assert Study.from_notebook({"In": [], "study": "smoke", "change": {}}).is_committed

    def test_given_families_and_data_the_sections_are_the_whole_study(self):
        values = smoke(study="quick", grpo=..., evaluation__samples=5)
        plan = Study.from_notebook({"In": []} | values)
        assert plan.params.grpo is None  # though params/quick.yaml has one
        assert plan.params.evaluation.samples == 5

    def test_an_unknown_injected_name_is_refused(self):
        injected = '# Parameters\nstudy = "smoke"\nrnu = "x"\n'
        with pytest.raises(InputError, match=r"^rnu: this notebook has no such parameter"):
            Study.from_notebook({"In": [*self.cells[:2], injected, ""], "study": "smoke", "rnu": "x"})

    def test_a_name_of_another_notebook_is_refused(self):
        with pytest.raises(InputError, match=r"^shard: this notebook has no such parameter"):
            Study.from_notebook({"In": [*self.cells[:2], "# Parameters\nshard = 1\n"], "study": "smoke"})

    def test_a_name_misspelt_in_the_parameters_cell_is_refused(self):
        cell = 'study = "smoke"\nrnu = "x"  # which run'
        with pytest.raises(InputError, match=r"^rnu: no notebook has such a parameter"):
            Study.from_notebook({"In": ["", cell, "%matplotlib inline"], "study": "smoke", "rnu": "x"})

    def test_a_section_that_papermill_gives_need_not_stand_in_the_cell(self):
        injected = '# Parameters\nstudy = "smoke"\nsft = {"learning_rate": 0.5}\n'
        names = {"In": ["", 'study = "smoke"', injected], "study": "smoke", "sft": {"learning_rate": 0.5}}
        assert Study.from_notebook(names).params.sft.learning_rate == 0.5

    def test_no_such_study(self):
        with pytest.raises(InputError, match=r"params/nope\.yaml"):
            Study.from_notebook({"In": [], "study": "nope"})

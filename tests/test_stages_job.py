"""A job: nothing finished is removed unasked, nothing half-written counts, nothing made otherwise is read."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sftrl.errors import InputError
from sftrl.files import read_json, write_json
from sftrl.stages import manifest
from sftrl.stages.job import Job

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Job("00_base", Path("runs/x/base"), {"size": {"layers": 3}}, seeds={"order": 1}, keep=("trainer",))


@pytest.fixture
def second(first):
    return Job("02_sft", Path("runs/x/sft/a"), {"sft": {"learning_rate": 0.1}}, (first,))


def made(job: Job, text: str = "weights", **how) -> dict:
    work = job.begin(**how)
    (work.folder / "model").mkdir(exist_ok=True)
    (work.folder / "model" / "x.bin").write_text(text)
    return work.finish(tokens=7)


def test_a_job_knows_the_time_that_it_alone_took(first, monkeypatch):
    before, until = manifest.cpu_seconds(), time.process_time() + 0.3
    while time.process_time() < until:
        pass
    assert manifest.cpu_seconds() - before >= 0.25
    clock = iter([100.0, 101.5])  # when it is taken up, and when it is finished
    monkeypatch.setattr(manifest, "cpu_seconds", lambda: next(clock))
    assert made(first)["cpu_seconds"] == 1.5


def test_a_finished_job_is_taken_up_as_it_is(first):
    manifest_made = made(first)
    assert {"settings", "seeds", "inputs", "outputs", "code", "packages", "device", "wall_seconds"} <= set(
        manifest_made
    )
    work = first.begin()
    assert work.done == manifest_made
    assert (first.folder / "model" / "x.bin").read_text() == "weights"
    assert work.finish(tokens=0) == manifest_made  # and finishing it again changes nothing
    assert read_json(first.folder / "manifest.json") == manifest_made


def test_the_manifest_says_how_long_it_took_to_a_tenth_of_a_second(first, monkeypatch):
    clock, processor = iter([1000.0, 1012.34]), iter([2.0, 9.87])
    monkeypatch.setattr("sftrl.stages.job.time.time", lambda: next(clock))
    monkeypatch.setattr("sftrl.stages.job.manifest.cpu_seconds", lambda: next(processor))
    made = first.begin().finish()
    assert (made["wall_seconds"], made["cpu_seconds"]) == (12.3, 7.9)


def test_another_setting_lands_elsewhere(first):
    made(first)
    other = replace(first, settings={"size": {"layers": 4}})
    assert other.folder != first.folder
    made(other, "other")
    assert (first.folder / "model" / "x.bin").read_text() == "weights"


def test_the_key_depends_on_settings_seeds_inputs_and_notebook_alone(first, second):
    assert replace(second, place=Path("elsewhere"), keep=("x",)).key == second.key
    assert len(second.key) == 10
    changes = [
        {"settings": {"sft": {"learning_rate": 0.2}}},
        {"seeds": {"order": 2}},
        {"inputs": (replace(first, settings={}),)},
        {"notebook": "04_grpo"},
    ]
    assert len({second.key, *(replace(second, **change).key for change in changes)}) == 1 + len(changes)


def test_a_new_setting_that_is_off_by_default_changes_no_key(first):
    off = {"size": {"layers": 3, "lora": None, "stop": [], "packing": False, "trl": {}}}
    assert replace(first, settings=off).key == first.key
    assert replace(first, settings={"size": {"layers": 3, "packing": True}}).key != first.key
    assert replace(first, settings={"size": {"layers": 3, "top": 0}}).key != first.key  # 0 is a value


def test_fresh_makes_it_again_by_name(first):
    made(first)
    (first.folder / "trainer").mkdir()
    assert made(first, "again", fresh=True)["id"] != ""
    assert (first.folder / "model" / "x.bin").read_text() == "again"
    assert not (first.folder / "trainer").exists()


def test_what_an_interrupted_run_left_is_cleared_but_for_what_it_goes_on_from(first):
    work = first.begin()
    for name in ("trainer", "model"):
        (work.folder / name).mkdir()
    (work.folder / "log.csv").write_text("half")
    first.begin()
    assert [path.name for path in first.folder.iterdir()] == ["trainer"]


def test_an_earlier_job_that_is_missing_or_unfinished_is_named_with_what_makes_it(first, second):
    with pytest.raises(
        InputError, match=r"does not exist: run 00_base first, by snakemake runs/x/base/.* params/x\.yaml"
    ):
        second.begin()
    first.begin()
    with pytest.raises(InputError, match=r"is unfinished \(it has no manifest\): run 00_base first"):
        second.begin()
    assert not second.folder.exists()


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_file_that_is_not_what_the_manifest_lists_is_named(first, damage):
    made(first)
    path = first.folder / "model" / "x.bin"
    path.unlink() if damage == "missing" else path.write_text("WEIGHTS")
    with pytest.raises(InputError, match=r"model/x\.bin: (listed|not what)"):
        first.require()


def test_other_settings_in_a_manifest_are_refused_by_name(first):
    kept = made(first)
    write_json(first.folder / "manifest.json", kept | {"settings": {"size": {"layers": 9}}})
    with pytest.raises(InputError, match=r"made with other settings: size\.layers was 9 and is 3"):
        first.require()


def test_a_result_of_an_input_made_anew_since_is_refused(first, second):
    made(first), made(second)
    second.require()
    made(first, "again", fresh=True)
    with pytest.raises(InputError, match=r"runs/x/sft/a/\w+: made from an earlier version of runs/x/base"):
        second.begin()
    made(second, fresh=True)
    second.require()


def test_a_result_outlives_its_input(first, second):
    made(first), made(second)
    shutil.rmtree(first.folder)  # disk is dear; what was made from it stands
    second.require()


class TestCode:
    """Which jobs were made by other code: prose, comments and parameters do not count, code cells and modules do."""

    @pytest.fixture
    def notebook(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        path = tmp_path / "notebooks" / "02_sft.ipynb"
        path.parent.mkdir()
        shutil.copy(ROOT / "notebooks" / "02_sft.ipynb", path)
        return path

    def edited(self, path: Path, kind: str, tags: bool = False) -> None:
        cells = json.loads(path.read_text())
        cell = next(c for c in cells["cells"] if c["cell_type"] == kind and bool(c["metadata"].get("tags")) == tags)
        cell["source"].append("\n# edited")
        path.write_text(json.dumps(cells))

    @pytest.mark.parametrize(("kind", "tags"), [("markdown", False), ("code", True)])
    def test_prose_and_parameters_do_not_count(self, notebook, kind, tags):
        made_by = {"code": {"notebooks/02_sft.ipynb": manifest.notebook_code("02_sft")}}
        self.edited(notebook, kind, tags)
        assert manifest.changed_code(made_by) == []

    def test_code_cells_count(self, notebook):
        made_by = {"code": {"notebooks/02_sft.ipynb": manifest.notebook_code("02_sft")}}
        self.edited(notebook, "code")
        assert manifest.changed_code(made_by) == ["notebooks/02_sft.ipynb"]

    def test_a_modules_docstrings_and_comments_do_not_count_and_its_code_does(self, tmp_path):
        def code(text: str) -> str:
            path = tmp_path / "m.py"
            path.write_text(text)
            manifest.module_code.cache_clear()
            return manifest.module_code(path)

        first = code('"""Says."""\n\ndef f(x):\n    """Says."""\n    return x + 1  # why\n')
        assert code('"""Says more."""\ndef f(x):\n    """More."""\n\n    return x + 1\n') == first
        assert code('"""Says."""\n\ndef f(x):\n    """Says."""\n    return x + 2  # why\n') != first

    def test_modules_that_make_numbers_are_listed(self):
        import sftrl.passk
        import sftrl.predict

        listed = manifest.modules_code("02_sft")
        assert "sftrl/passk/estimator.py" in listed
        assert not any(name.startswith(("sftrl/figures", "sftrl/study", "sftrl/stages")) for name in listed)
        assert sftrl.passk.__file__
        assert sftrl.predict.__file__
        judged = manifest.modules_code("05_predict")
        assert {name.split("/")[1] for name in judged.keys() - listed.keys()} >= {"predict"}  # no part of a training
        assert listed.items() <= judged.items()
        assert manifest.changed_code({"code": listed | {"sftrl/passk/gone.py": "x"}}) == ["sftrl/passk/gone.py"]

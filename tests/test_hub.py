"""A study goes to a hub and comes back whole: a small hub on this machine, spoken to over HTTP by the real client."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as `create_repo`, `create_commit` and `snapshot_download` use."""

    repos: dict[str, dict[str, bytes]]
    commits: list[str]
    private: dict[str, bool]
    broken_after: int | None
    address: str

    def do_POST(self):
        path, body = urlparse(self.path).path, self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != "Bearer hf_right":
            return self._json({"error": "no right to write"}, 403)
        if path == "/api/validate-yaml":
            return self._json({"warnings": [], "errors": []})
        if path == "/api/repos/create":
            given = json.loads(body)
            name = f"{given['organization']}/{given['name']}"
            self.private.setdefault(name, given.get("private") or given.get("visibility") == "private")
            self.repos.setdefault(name, {})
            return self._json({"url": f"{self.address}/datasets/{name}", "name": name})
        repo, action = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/(preupload|commit)/main", path).groups()
        if action == "preupload":
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in files]
            return self._json({"files": modes})
        if self.broken_after == len(self.commits):
            return self._json({"error": "the hub is full"}, 413)
        header, *lines = map(json.loads, body.splitlines())
        self.commits.append(header["value"]["summary"])
        for line in lines:
            self.repos[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self._json(
            {"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.address}/datasets/{repo}/commit/0"}
        )

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlparse(self.path).path)
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/(?:revision/[^/]+|tree/.*)", path):
            files = self.repos.get(match[1])
            if files is None:
                return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            if "/tree/" in path:
                return self._json([{"type": "file", "path": p, "size": len(c), "oid": "1"} for p, c in files.items()])
            return self._json({"id": match[1], "sha": "0" * 40, "siblings": [{"rfilename": p} for p in files]})
        if not (match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)):
            return self._json({"error": "Not found"}, 404)
        repo, name = match.groups()
        content = self.repos[repo][name]
        etag = hashlib.sha256(content).hexdigest()
        self._send(content, 200, {"ETag": f'"{etag}"', "X-Repo-Commit": "0" * 40})

    def _json(self, value, status=200, headers=None):
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json"} | (headers or {}))

    def _send(self, content, status, headers):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    state = type("State", (Hub,), {"repos": {}, "commits": [], "private": {}, "broken_after": None})
    with ThreadingHTTPServer(("127.0.0.1", 0), state) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        state.address = f"http://127.0.0.1:{server.server_port}"
        yield state
        server.shutdown()


def call(hub, folder, *words, token="hf_right"):
    env = os.environ | {"HF_ENDPOINT": hub.address, "HF_TOKEN": token, "HF_HOME": f"{folder}/cache"}
    env |= {
        "PYTHONPATH": str(ROOT),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_OFFLINE": "0",
    }
    ran = subprocess.run(
        [sys.executable, "-m", "sftrl.hub", *words], cwd=folder, env=env, capture_output=True, text=True
    )
    return ran.returncode, ran.stdout, ran.stderr


@pytest.fixture
def study(tmp_path):
    """A study's folders: a job with model, samples and locks, and its tables."""
    folder = tmp_path / "here"
    job = folder / "runs" / "mine" / "tiny" / "sft" / "a"
    for name in (
        "manifest.json",
        "model/config.json",
        "stores/1/samples/0-of-1/000000-ab.parquet",
        "stores/1/locks/door",
    ):
        (job / name).parent.mkdir(parents=True, exist_ok=True)
        (job / name).write_bytes(name.encode() * 50)
    for name in ("trainer/state.json", ".half.parquet", "stores/1/samples/0-of-1/000001-cd.parquet.damaged"):
        (job / name).parent.mkdir(parents=True, exist_ok=True)
        (job / name).write_bytes(b"not worth keeping")
    (folder / "figures" / "mine").mkdir(parents=True)
    scores = {"pass@1": 0.25, "pass@1_low": 0.2, "pass@1_high": 0.3, "pass@8": 0.625}
    how = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 64, "verifier_version": "v-7"}
    row = {"family": "tiny", "run": "a", "phase": "post_sft", "rl_seed": None, "problems": 24, "samples": 8}
    rows = [row | how | {"benchmark": name} | scores for name in ("sums", "average")]
    pd.DataFrame(rows).to_csv(folder / "figures" / "mine" / "results.csv", index=False)
    losses = pd.DataFrame([{"family": "tiny", "run": "a", "generalization_loss": 0.5}])
    losses.to_csv(folder / "figures" / "mine" / "predictors.csv", index=False)
    return folder


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_study_goes_to_the_hub_and_comes_back(hub, study, tmp_path):
    code, said, errors = call(hub, study, "push", "mine", "me/study")
    assert code == 0, errors
    assert said.splitlines()[-1] == f"{hub.address}/datasets/me/study"
    kept = hub.repos["me/study"]
    assert {path for path in kept if path.startswith("runs/")} == {
        f"runs/mine/tiny/sft/a/{name}"
        for name in ("manifest.json", "model/config.json", "stores/1/samples/0-of-1/000000-ab.parquet")
    }
    assert hub.private == {"me/study": True}
    card = kept["README.md"].decode()
    assert "| tiny | a | post_sft |  | 24 | 8 | 0.250 (0.200 to 0.300) | 0.625 | 0.5 |" in card
    assert "temperature 1, top_p 1, max_tokens 64, verifier_version v-7" in card

    there = tmp_path / "there"
    there.mkdir()
    code, _, errors = call(hub, there, "pull", "mine", "me/study")
    assert code == 0, errors
    assert {f"runs/mine/{name}": content for name, content in files(there / "runs" / "mine").items()} == {
        path: content for path, content in kept.items() if path.startswith("runs/")
    }
    assert files(there / "figures") == files(study / "figures")
    # Once more: nothing is replaced.
    (there / "runs" / "mine" / "own").write_text("work")
    code, _, errors = call(hub, there, "pull", "mine", "me/study")
    assert (code, errors) == (1, "runs/mine: is there already; move it away, or pull elsewhere\n")
    assert (there / "runs" / "mine" / "own").read_text() == "work"


def test_a_broken_push_leaves_no_finished_job(hub, study):
    hub.broken_after = 1
    with_small_commits = "import sys; from sftrl import hub; hub.FILES_A_COMMIT = 3; sys.exit(hub.main(sys.argv[1:]))"
    env = os.environ | {"HF_ENDPOINT": hub.address, "HF_TOKEN": "hf_right", "HF_HOME": f"{study}/cache"}
    env |= {"PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", with_small_commits, "push", "mine", "me/study"]
    ran = subprocess.run(command, cwd=study, env=env, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.startswith("me/study: ")
    assert len(ran.stderr.splitlines()) == 1
    assert not [path for path in hub.repos["me/study"] if path.endswith(("manifest.json", "README.md"))]
    hub.broken_after = None
    ran = subprocess.run(command, cwd=study, env=env, capture_output=True, text=True)
    assert ran.returncode == 0
    assert "runs/mine/tiny/sft/a/manifest.json" in hub.repos["me/study"]


@pytest.mark.parametrize(
    ("words", "token", "message"),
    [
        (("push", "other", "me/study"), "hf_right", r"figures/other/results\.csv: no such file"),
        (("push", "mine", "me/study"), "hf_wrong", r"me/study: .*403 Forbidden"),
        (("push", "mine", "not a name"), "hf_right", "not a name: Repo id must"),
        (("pull", "other", "me/none"), "hf_right", "me/none: .*404"),
    ],
)
def test_slips_are_one_line(hub, study, words, token, message):
    code, _, errors = call(hub, study, *words, token=token)
    assert code == 1
    assert len(errors.splitlines()) == 1, errors
    assert re.match(message, errors)

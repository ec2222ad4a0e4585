"""Prewarmed kernels: forked from a process that has imported what every notebook needs.

    warm.start(threads=1)          # in the process that starts papermill; ends with it
    papermill -k sftrl-warm ...

Of a job of a small study, most seconds are the imports of torch, transformers and TRL. The server imports them once;
the kernel spec starts a client, which hands its place (environment, folder, open files) to a fork and stands in for it:
signals go through, and either ends with the other. Without a server that fits, the client becomes an ordinary kernel.
Nothing of this package is imported before the fork, so a manifest names the code that its own job loaded.

Not where there are GPUs: CUDA does not survive a fork, and jobs there are long. This file stands alone, by its path and
in the standard library, so that a client starts in a fiftieth of a second.
"""

import contextlib
import importlib
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

NAME = "sftrl-warm"
MODULES = ("ipykernel.kernelapp", "IPython", "matplotlib.pyplot", "pandas", "scipy.stats", "torch", "datasets")
LAZY = {  # packages that import a part when it is asked for
    "transformers": ("AutoModelForCausalLM", "AutoTokenizer", "Trainer"),
    "trl": ("SFTConfig", "SFTTrainer", "GRPOConfig", "GRPOTrainer"),
}
# What a library reads once, when it is loaded: a client with other values gets a kernel of its own.
FIXED = ("OMP_NUM_THREADS", "PYTHONPATH", "PATH", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED")
ACCEPTED = b"1"
STATUS = 4  # bytes of an exit status


def start(threads: int) -> None:
    """Start a server, and have the children of this process find its kernel spec.

    Args:
        threads: OMP_NUM_THREADS of the kernels, which a library reads once.
    """
    if Path("/dev/nvidiactl").exists():
        return
    folder = Path(tempfile.mkdtemp(prefix="sftrl-warm-"))
    spec = folder / "kernels" / NAME
    spec.mkdir(parents=True)
    here = str(Path(__file__).resolve())
    words = [sys.executable, "-P", "-S", here, "kernel", str(folder), "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": words, "display_name": "Python 3", "language": "python"}))
    paths = [str(folder), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    os.environ |= {"JUPYTER_PATH": os.pathsep.join(paths), "SFTRL_KERNEL": NAME}
    # Its standard input is a pipe from this process, which the system closes when this process ends, however it ends.
    backend = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # matplotlib, too, reads it when it is loaded
    subprocess.Popen(
        [sys.executable, "-P", here, "serve", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | backend | {"OMP_NUM_THREADS": str(threads)},
    )  # fmt: skip


def serve(folder: Path) -> None:
    """Import, then fork a kernel for every client until standard input ends."""
    for module in MODULES:
        importlib.import_module(module)
    for module, names in LAZY.items():
        for name in names:
            getattr(importlib.import_module(module), name)
    tasks = {Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")}
    if threading.active_count() > 1 or len(tasks - {"jemalloc_bg_thd"}) > 1:  # jemalloc starts its own anew in a fork
        return  # a fork would lose a thread that an import has started
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "new"))
    server.listen(64)
    os.rename(folder / "new", folder / "socket")  # there once it answers
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # finished keepers vanish
    while sys.stdin not in (ready := select.select([server, sys.stdin], [], [])[0]) or server in ready:
        client, _ = server.accept()
        if os.fork() == 0:
            server.close()
            _keep(client)
        client.close()
    shutil.rmtree(folder)


def _keep(client: socket.socket) -> None:
    """Fork the kernel and stand by: signals from the client to it, its status to the client, and no return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    text, files, _, _ = socket.recv_fds(client, 2**20, 3)
    wish = json.loads(text)
    if wish["fixed"] != {name: os.environ.get(name) for name in FIXED}:
        os._exit(0)
    client.sendall(ACCEPTED)
    child = os.fork()
    if child == 0:
        client.close()
        _become(wish, files)
    for file in files:
        os.close(file)
    client.setblocking(False)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            with contextlib.suppress(OSError):
                client.sendall(os.waitstatus_to_exitcode(status).to_bytes(STATUS, "big", signed=True))
            os._exit(0)
        if select.select([client], [], [], 0.05)[0]:
            said = client.recv(1)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, said[0] if said else signal.SIGKILL)  # nothing more: the client is gone


def _become(wish: dict, files: list[int]) -> None:
    """Run an IPython kernel in the client's place, and end the process."""
    status = 1
    try:
        os.setsid()
        for here, file in enumerate(files):
            os.dup2(file, here)
            os.close(file)
        os.chdir(wish["folder"])
        os.environ.clear()
        os.environ.update(wish["environment"])
        random.seed()  # no two forks draw the same
        sys.modules["numpy"].random.seed()
        sys.argv = ["ipykernel_launcher", *wish["arguments"]]
        from ipykernel import kernelapp

        kernelapp.launch_new_instance()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def kernel(folder: Path, connection_file: str) -> None:
    """Be a kernel: a fork of the server, or an ordinary one where there is none that fits."""
    server = socket.socket(socket.AF_UNIX)
    arguments = ["-f", connection_file, "--HistoryManager.hist_file=:memory:"]
    wish = {
        "arguments": arguments,
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "fixed": {name: os.environ.get(name) for name in FIXED},
    }
    answer = b""
    with contextlib.suppress(OSError):
        server.connect(str(folder / "socket"))
        socket.send_fds(server, [json.dumps(wish).encode()], [0, 1, 2])
        answer = server.recv(1)
    if answer != ACCEPTED:
        os.execv(sys.executable, [sys.executable, "-m", "ipykernel_launcher", *arguments])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, _: server.sendall(bytes([number])))
    parent = os.getppid()
    while not select.select([server], [], [], 1.0)[0]:
        if os.getppid() != parent:
            os._exit(1)  # papermill has died, and with the connection the fork will
    status = server.recv(STATUS)
    os._exit(int.from_bytes(status, "big", signed=True) if status else 1)


if __name__ == "__main__":
    what, place, *rest = sys.argv[1:]
    serve(Path(place)) if what == "serve" else kernel(Path(place), *rest)

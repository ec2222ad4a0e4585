"""A private Slurm on this machine: munged, slurmctld and slurmd with a configuration of their own and fake GPUs.

    python tests/slurm/cluster.py snakemake --profile profiles/slurm --configfile params/smoke.yaml

starts it, runs the command inside it and stops it. Debian: apt-get install slurm-wlm munge. Needs root, since slurmd
sets each job's user. Nothing outside the given folder is written, and no port or service of a real Slurm is touched.
"""

import ctypes
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo")
GPUS = 2

# Memory is polled and a job over it killed, by slurmd itself: the control groups that clusters use for it may not be
# writable where tests run. CPUs are more than the machine has, so that small jobs wait for work and not for a place.
CONFIG = """
ClusterName=sftrl
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=5
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobRequeue=1
KillWait=30
MinJobAge=600
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:h100:{gpus} State=UNKNOWN
PartitionName=cpu Nodes=node Default=YES MaxTime=60 State=UP
PartitionName=gpu Nodes=node MaxTime=60 State=UP
"""


def why_not() -> str:
    """Return why a Slurm cannot be started here, or an empty string."""
    if os.geteuid() != 0:
        return "a private Slurm needs root"
    absent = [name for name in PROGRAMS if not _program(name)]
    return f"no {absent[0]} (Debian: apt-get install slurm-wlm munge)" if absent else ""


class Cluster:
    """A Slurm of one node, up inside the `with` block; `env` is what its clients need.

    Raises:
        RuntimeError: a daemon did not come up; the message holds the end of its log.
    """

    def __init__(self, folder: Path, cpus: int = 8):
        self.folder, self.cpus = Path(folder), cpus
        programs = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])
        self.env = os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": programs}
        self.daemons: list[subprocess.Popen] = []

    def __enter__(self) -> "Cluster":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if len(self.daemons) == 3:  # a job outlives its daemons
            self.call("scancel", "--me")
            time.sleep(1)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.daemons.clear()

    def _start(self) -> None:
        folder = self.folder
        for name in ("state", "spool", "gpus", "bin"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = [folder / "gpus" / f"gpu{i}" for i in range(GPUS)]
        for file in files:
            os.mknod(file, 0o600 | stat.S_IFCHR, os.stat(os.devnull).st_rdev)  # Slurm takes only devices
        (folder / "gres.conf").write_text("".join(f"Name=gpu Type=h100 File={file}\n" for file in files))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        ctld_port, slurmd_port = _free_port(), _free_port()
        values = {"host": socket.gethostname(), "folder": folder, "cpus": self.cpus, "memory": memory, "gpus": GPUS}
        values |= {"ctld_port": ctld_port, "slurmd_port": slurmd_port}
        (folder / "slurm.conf").write_text(CONFIG.format(**values))

        # Snakemake's plugin takes every SLURM_ variable from its job steps, and so the way to a private configuration.
        srun = folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {_program("srun")} "$@"\n')
        srun.chmod(0o755)

        sock = folder / "munge.socket"
        self._daemon(
            "munged", "--foreground", "--force", f"--socket={sock}", f"--key-file={key}",
            f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed",
        )  # fmt: skip
        self._wait("munged", sock.exists)
        self._daemon("slurmctld", "-D", "-i")
        self._daemon("slurmd", "-D", "-N", "node")
        self._wait("slurmd", lambda: self.call("sinfo", "-h", "-o", "%t").stdout.split() == ["idle"])

    def call(self, *words: str, **more) -> subprocess.CompletedProcess:
        """Run a command as a client of this Slurm, its output captured."""
        return subprocess.run(words, env=self.env, capture_output=True, text=True, **more)

    def _daemon(self, name: str, *words: str) -> None:
        with (self.folder / f"{name}.out").open("w") as out:
            daemon = subprocess.Popen([_program(name), *words], env=self.env, stdout=out, stderr=out, preexec_fn=_bound)
        self.daemons.append(daemon)

    def _wait(self, name: str, ready, seconds: float = 30) -> None:
        until = time.monotonic() + seconds
        while not ready():
            dead = [str(d.args[0]) for d in self.daemons if d.poll() is not None]
            if dead or time.monotonic() > until:
                logs = [path for path in self.folder.glob("*.log") if path.stat().st_size]
                ends = "\n".join(f"{path.name}: ...{path.read_text()[-1500:]}" for path in logs)
                raise RuntimeError(f"{dead[0] if dead else name} did not come up\n{ends}")
            time.sleep(0.2)


def _bound() -> None:
    """Have the kernel end this process when the one that started it dies, however it dies."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    if reason := why_not():
        sys.exit(reason)
    with tempfile.TemporaryDirectory(prefix="slurm-") as home, Cluster(Path(home)) as cluster:
        sys.exit(subprocess.run(sys.argv[1:], env=cluster.env).returncode)

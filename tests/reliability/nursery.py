"""Real processes at the price of a fork: one process imports everything once, then makes as many as a test wants.

Run as a program it reads one JSON request a line and answers with one line; `Nursery` is the other side.
"""

import dataclasses
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]


@dataclasses.dataclass
class Ended:
    """How a process ended: negative codes are signals, as in `subprocess`. `hung` says that it had to be killed."""

    code: int
    out: str
    err: str
    seconds: float  # from its start
    hung: bool = False


class Nursery:
    """Starts commands of this package, on one rank or several, each in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.nursery"],
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self, command: str, *words: str, ranks: int = 1, first: str = "", env: dict[str, str] | None = None
    ) -> list[int]:
        """Start `command` with `words` on each rank; `first` is Python that every process executes before."""
        self.number += 1
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environments = []
        for rank in range(ranks):
            group = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
            master = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            environments.append({**(group | master if ranks > 1 else {}), **(env or {})})
        logs = [str(self.folder / f"{self.number}-{rank}") for rank in range(ranks)]
        return self._ask(
            {"command": command, "words": words, "first": first, "environments": environments, "logs": logs}
        )

    def wait(self, pids: list[int], timeout: float = 60.0) -> list[Ended]:
        """Wait for all of them; who is not done after `timeout` seconds is killed."""
        return [Ended(**row) for row in self._ask({"wait": pids, "timeout": timeout})]

    def run(self, command: str, *words: str, timeout: float = 60.0, **options: Any) -> list[Ended]:
        """Start and wait."""
        return self.wait(self.start(command, *words, **options), timeout)

    def execute(self, program: str, timeout: float = 120.0) -> list[Ended]:
        """Run Python code in a process of its own."""
        program += "\nimport os, sys; sys.stdout.flush(); os._exit(0)"
        return self.run("train", first=program, timeout=timeout)

    def close(self) -> None:
        """End the server; nothing that it started is left."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.close()
        self.server.wait(timeout=60)
        self.server.stdout.close()

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        print(json.dumps(request), file=self.server.stdin, flush=True)
        return json.loads(self.server.stdout.readline())


def limit_file_size(megabytes: float) -> None:
    """Let writing beyond this fail as on a full disk; Python ignores the signal that comes with it."""
    limit = int(megabytes * 1e6)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def _serve() -> None:
    import torch

    import ssd.commands.eval
    import ssd.commands.train
    import ssd.data.augment.transforms
    import ssd.training.saving
    import ssd.training.trainer

    torch.set_num_threads(1)
    ssd.training.saving.SECONDS_BETWEEN = 0.0  # a state after each epoch, in runs of seconds too
    started: dict[int, tuple[str, float]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer: Any = _wait(request["wait"], request["timeout"], started)
        else:
            answer = [_fork(request, rank) for rank in range(len(request["logs"]))]
            started |= {pid: (log, time.monotonic()) for pid, log in zip(answer, request["logs"], strict=True)}
        print(json.dumps(answer), flush=True)
    for pid in started:
        os.kill(pid, signal.SIGKILL)
    os._exit(0)  # without the seconds that taking torch down costs


def _fork(request: dict[str, Any], rank: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.environ.update(request["environments"][rank])
        for number, suffix in ((0, None), (1, "out"), (2, "err")):
            path = os.devnull if suffix is None else f"{request['logs'][rank]}.{suffix}"
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        exec(request["first"], {"rank": rank, "limit_file_size": limit_file_size})
        module = __import__(f"ssd.commands.{request['command']}", fromlist=["main"])
        code = module.main(request["words"])
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pids: list[int], timeout: float, started: dict[int, tuple[str, float]]) -> list[dict[str, Any]]:
    ended: dict[int, tuple[int, float, bool]] = {}
    deadline = time.monotonic() + timeout
    while len(ended) < len(pids):
        late = time.monotonic() > deadline
        for pid in set(pids) - set(ended):
            if late:
                os.kill(pid, signal.SIGKILL)
            done, status = os.waitpid(pid, 0 if late else os.WNOHANG)
            if done:
                ended[pid] = os.waitstatus_to_exitcode(status), time.monotonic(), late
        time.sleep(0.01)
    rows = []
    for pid in pids:
        log, start = started.pop(pid)
        code, end, hung = ended[pid]
        texts = {suffix: Path(f"{log}.{suffix}").read_text(errors="replace") for suffix in ("out", "err")}
        rows.append(dataclasses.asdict(Ended(code, texts["out"], texts["err"], end - start, hung)))
    return rows


if __name__ == "__main__":
    _serve()

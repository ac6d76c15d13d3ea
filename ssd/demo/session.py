"""A session of the demo: its environment variables and temporary files, and their removal at the end."""

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ssd.demo.page import build_page, serve
from ssd.demo.search import Search
from ssd.errors import ArgumentError, CheckpointError, at_least
from ssd.system.optional import load_extra
from ssd.training.run_folder import newest_weights
from ssd.weights.hub import is_hub_address
from ssd.weights.resolve import DEFAULT, PUBLISHED

KEPT_SECONDS = 600.0  # an image is deleted after so long
MAX_PORT = 65_535
_NO_REMOTE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True)
class Session:
    """A page that is being served."""

    address: str
    folder: Path  # for uploaded and drawn images

    def sweep(self) -> None:
        """Delete expired images."""
        sweep(self.folder, KEPT_SECONDS)


@contextmanager
def serving(
    weights: Sequence[str] = (),
    *,
    host: str = "127.0.0.1",
    allow_hosts: Sequence[str] = (),
    port: int | None = None,
    max_upload: int = 20,
    browser: bool = False,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
) -> Iterator[Session]:
    """Serve the page inside a `with` block, with the choices `weights`, the runs in runs/, and the default weights.

    Browsers may ask for it as this machine, as `host` and as `allow_hosts`. `max_upload` is the largest image file, in
    MB. At the end images are deleted and the environment is restored.

    Raises:
        ArgumentError: a number is out of its range, or the port is not available.
        CheckpointError: weights are missing or cannot be used.
        MissingExtraError: Gradio is not installed.
    """
    at_least(1, max_upload=max_upload, port=port)
    if port is not None and port > MAX_PORT:
        raise ArgumentError(f"{port} is no port", place="port", remedy=f"Use 1 to {MAX_PORT}.")
    choices = list_weights(weights)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ssd-demo-")))
        stack.callback(_restore, dict(os.environ))
        os.environ.update(_NO_REMOTE | {"GRADIO_TEMP_DIR": str(folder), "NO_PROXY": _without_proxy(host)})
        load_extra("gradio", "demo")  # fails before the weights are loaded
        search = Search(choices, device=device, precision=precision, backend=backend)
        search.load(choices[0])  # reports a mistake here and not on the page
        page = build_page(search, folder, KEPT_SECONDS)
        address = serve(page, host, port, max_upload, browser=browser, allow_hosts=allow_hosts)
        stack.callback(page.close, verbose=False)
        yield Session(address, folder)


def list_weights(named: Sequence[str], runs: Path = Path("runs")) -> list[str]:
    """The choices of the page: `named`, then the runs, newest first, then the default weights.

    Raises:
        CheckpointError: one that was named is not there.
    """
    for name in named:
        if name not in PUBLISHED and not is_hub_address(name) and not Path(name).exists():
            raise CheckpointError("no such weights file", place=name, remedy="Name a file or a run's folder.")
    found = [str(path.parent) for path in newest_weights(runs, "best")]
    return list(dict.fromkeys([*named, *found, DEFAULT]))


def sweep(folder: Path, seconds: float) -> None:
    """Delete the files below `folder` that were last written more than `seconds` ago."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        with suppress(FileNotFoundError):  # the page has deleted it just now
            if time.time() - path.stat().st_mtime > seconds:
                path.unlink()


def _without_proxy(host: str) -> str:
    """Gradio asks its own page whether it is there; that must not go through a proxy."""
    return ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1", "localhost", host]))


def _restore(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)

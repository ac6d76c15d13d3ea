"""`demo [WEIGHTS ...]`: a web page on this machine; drop an image, see the boxes."""

import argparse
import ipaddress
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from ssd.commands._shared import guarded
from ssd.errors import ArgumentError, CheckpointError
from ssd.system.optional import load_extra

EPILOG = """examples:
  ssd demo                          the runs in runs/, newest first, and SSD300 trained on COCO
  ssd demo runs/bccd model.onnx     these, and the same
  ssd demo --port 8080 --browser    opens the page, too

The page is for this machine alone unless --host says otherwise; whoever reaches it can use it. Images stay
on this machine, are deleted after ten minutes and when the program ends, and nothing is fetched from
elsewhere. Ctrl-C ends it."""

KEPT_SECONDS = 600.0  # for which an image is kept: as long as somebody may look at it
_NO_REMOTE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd demo",
        description="A web page that finds objects in an image.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    text = "weights files or runs' folders to choose from; default: the runs in runs/"
    p.add_argument("weights", nargs="*", metavar="WEIGHTS", help=text)
    p.add_argument("--host", default="127.0.0.1", help="address to listen at, default %(default)s: this machine alone")
    p.add_argument("--port", type=int, help="default: the first that is free from 7860 on")
    p.add_argument("--max-upload", type=int, default=20, metavar="MB", help="largest image file, default %(default)s")
    p.add_argument("--browser", action="store_true", help="open the page in the browser")
    p.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1")
    p.add_argument("--precision", default="auto", help="auto (default), fp32, bf16, fp16")
    p.add_argument("--backend", default="auto", help="auto (default), torch, openvino")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Serve the page until Ctrl-C; the exit code is 0 then, 2 for a mistake of the user's."""
    args = parser().parse_args(argv)
    if args.max_upload < 1:
        raise ArgumentError(f"{args.max_upload} is too small", place="--max-upload", remedy="Use 1 or more (MB).")
    choices = list_weights(args.weights)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ssd-demo-"))
        stack.callback(_restore, dict(os.environ))
        os.environ.update(_NO_REMOTE | {"GRADIO_TEMP_DIR": folder, "NO_PROXY": _without_proxy(args.host)})
        load_extra("gradio", "demo")  # takes seconds; without it there is nothing to load weights for
        from ssd.demo.page import build_page, serve
        from ssd.demo.search import Search

        search = Search(choices, device=args.device, precision=args.precision, backend=args.backend)
        search.load(choices[0])  # a mistake is better seen here than on the page
        page = build_page(search, Path(folder), KEPT_SECONDS)
        address = serve(page, args.host, args.port, args.max_upload, browser=args.browser)
        stack.callback(page.close, verbose=False)
        print(f"page: {address} (Ctrl-C ends it)", flush=True)
        if not _is_loopback(args.host):
            print(f"warning: others can reach it at {args.host}, and use it", file=sys.stderr)
        _wait(Path(folder))
    return 0


def list_weights(named: Sequence[str], runs: Path = Path("runs")) -> list[str]:
    """What the page offers: what was named, else the runs, newest first; and then the default weights.

    Raises:
        CheckpointError: one that was named is not there.
    """
    for name in named:
        if name != "coco" and not Path(name).exists():
            raise CheckpointError("no such weights file", place=name, remedy="Name a file or a run's folder.")
    best = sorted(runs.glob("*/best.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
    found = [str(path.parent) for path in best]
    return list(dict.fromkeys([*named, *found, "coco"]))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _without_proxy(host: str) -> str:
    """Gradio asks its own page whether it is there; that must not go through a proxy."""
    return ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1", "localhost", host]))


def _restore(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def _wait(folder: Path) -> None:
    """Until Ctrl-C or SIGTERM; meanwhile files that are no longer needed go."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # else nothing would be cleaned up
    try:
        while not threading.Event().wait(timeout=60):
            sweep(folder, KEPT_SECONDS)
    except KeyboardInterrupt:
        print("the page is closed")
    finally:
        signal.signal(signal.SIGTERM, before)


def sweep(folder: Path, seconds: float) -> None:
    """Delete the files below `folder` that were last written more than `seconds` ago."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        with suppress(FileNotFoundError):  # the page has deleted it just now
            if time.time() - path.stat().st_mtime > seconds:
                path.unlink()

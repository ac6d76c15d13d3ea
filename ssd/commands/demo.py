"""`demo [WEIGHTS ...]`: a web page on this machine that detects objects in uploaded images."""

import argparse
import ipaddress
import signal
import sys
import threading
from typing import TYPE_CHECKING

from ssd.commands._shared import add_runtime, check_numbers, guarded

if TYPE_CHECKING:
    from ssd.demo.session import Session

EPILOG = """examples:
  ssd demo                          the runs in runs/, newest first, and SSD300 trained on COCO
  ssd demo runs/bccd model.onnx     these, and the same
  ssd demo --port 8080 --browser    opens the page, too
  ssd demo --host 0.0.0.0 --allow-host gpu.lan   for others, who call this machine gpu.lan

The page is for this machine alone unless --host says otherwise; whoever reaches it can use it. Images stay
on this machine, are deleted after ten minutes and when the program ends, and nothing is fetched from
elsewhere. Ctrl-C ends it."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd demo",
        description="A web page that finds objects in an image.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    text = "weights files or runs' folders to choose from, before the runs in runs/"
    p.add_argument("weights", nargs="*", metavar="WEIGHTS", help=text)
    p.add_argument("--host", default="127.0.0.1", help="address to listen at, default %(default)s: this machine alone")
    text = "another name of this machine that browsers use for the page, as of a proxy; repeatable"
    p.add_argument("--allow-host", action="append", default=[], metavar="NAME", help=text)
    p.add_argument("--port", type=int, help="default: the first that is free from 7860 on")
    p.add_argument("--max-upload", type=int, default=20, metavar="MB", help="largest image file, default %(default)s")
    p.add_argument("--browser", action="store_true", help="open the page in the browser")
    add_runtime(p)
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Serve the page until Ctrl-C; the exit code is then 0, and 2 for a user's mistake."""
    args = parser().parse_args(argv)
    check_numbers(args, max_upload=1)

    from ssd.demo.session import serving  # brings torch, so only now

    with serving(
        args.weights,
        host=args.host,
        allow_hosts=args.allow_host,
        port=args.port,
        max_upload=args.max_upload,
        browser=args.browser,
        device=args.device,
        precision=args.precision,
        backend=args.backend,
    ) as session:
        print(f"page: {session.address} (Ctrl-C ends it)", flush=True)
        if not _is_loopback(args.host):
            print(f"warning: others can reach it at {args.host}, and use it", file=sys.stderr)
        _wait(session)
    return 0


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _wait(session: "Session") -> None:
    """Wait for Ctrl-C or SIGTERM, and delete expired files meanwhile."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # otherwise nothing would be cleaned up
    try:
        while not threading.Event().wait(timeout=60):
            session.sweep()
    except KeyboardInterrupt:
        print("the page is closed")
    finally:
        signal.signal(signal.SIGTERM, before)

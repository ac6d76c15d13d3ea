"""`publish RUN hf://owner/name`: uploads a run's best weights and a model card to a Hugging Face repository."""

import argparse
from pathlib import Path

from ssd.commands._shared import guarded
from ssd.errors import ArgumentError, printable
from ssd.system.files import check_writable

EPILOG = """examples:
  ssd publish runs/cells hf://me/cells --out preview        write what would be uploaded into preview/, upload nothing
  ssd publish runs/cells hf://me/cells --private --license mit

Log in first: `hf auth login`, or set $HF_TOKEN. Needs the extra hub. Then `ssd.load("hf://me/cells")`
gives the detector anywhere. Folders of this machine are left out of what is published."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd publish",
        description="Publish a detector in a Hugging Face repository.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("source", metavar="RUN", help="a run's folder (its best weights), or a weights file")
    p.add_argument("address", metavar="hf://OWNER/NAME", help="the repository; made if it is not there")
    p.add_argument("--out", type=Path, metavar="FOLDER", help="write the files into this new or empty folder instead")
    p.add_argument("--private", action="store_true", help="a repository made now is private")
    p.add_argument("--license", metavar="ID", help="for the card, as the hub spells it: mit, apache-2.0, cc-by-4.0")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Upload, or with --out write the files locally."""
    args = parser().parse_args(argv)
    if args.out is not None and args.private:
        remedy = "Leave it out: --out writes files and makes no repository."
        raise ArgumentError("has no effect with --out", place="--private", remedy=remedy)

    from ssd.weights.publish import CARD, prepare, publish  # brings torch, so only now

    if args.out is None:
        page = publish(args.source, args.address, private=args.private, license=args.license)
        print(f"{page}\nLoad it with ssd.load({args.address!r}).")
        return 0
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise ArgumentError("is there already", place=args.out, remedy="Name a new or empty folder.")
    check_writable(args.out / CARD)
    prepare(args.source, args.out, args.address, license=args.license)
    print(printable(f"{args.out}: what would be uploaded to {args.address}; read {args.out / CARD} first"))
    return 0

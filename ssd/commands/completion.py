"""`completion bash|zsh|fish|tcsh|powershell`: a script that completes commands, options and their values."""

import argparse

from ssd.commands._shared import guarded
from ssd.system.optional import load_extra

EPILOG = """examples:
  eval "$(ssd completion bash)"                                     in ~/.bashrc
  autoload -U compinit && compinit; eval "$(ssd completion zsh)"    in ~/.zshrc
  ssd completion fish > ~/.config/fish/completions/ssd.fish

Needs: pip install "ssd-vgg[completion]"."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd completion",
        description="Print a script for the shell that completes `ssd`.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh", "powershell"))
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Print the script."""
    from ssd.commands.main import all_parsers

    args = parser().parse_args(argv)
    print(load_extra("shtab", "completion").complete(all_parsers(), shell=args.shell))
    return 0

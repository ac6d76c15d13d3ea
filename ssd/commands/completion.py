"""`completion bash|zsh|fish`: a script that lets the shell complete commands, options, their values and config keys."""

import argparse
import importlib
import shlex
from collections.abc import Iterator

from ssd.commands._shared import guarded

EPILOG = """examples:
  eval "$(ssd completion bash)"                              in ~/.bashrc
  autoload -U compinit && compinit; eval "$(ssd completion zsh)"    in ~/.zshrc
  ssd completion fish > ~/.config/fish/completions/ssd.fish"""

_BASH = """_ssd() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" command="${{COMP_WORDS[1]}}"
  local options="" values=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W {commands} -- "$word"))
    return
  fi
  case "$command" in
{options}
  esac
  case "$command $before" in
{values}
  esac
  if [ -n "$values" ]; then
    COMPREPLY=($(compgen -W "$values" -- "$word"))
  elif [ "${{word#-}}" != "$word" ]; then
    COMPREPLY=($(compgen -W "$options" -- "$word"))
  elif [ "$command" = train ] && [ -n "$word" ]; then
    COMPREPLY=($(compgen -W {keys} -- "$word"))
    if [ ${{#COMPREPLY[@]}} -gt 0 ]; then compopt -o nospace 2>/dev/null; fi
  fi
  if [ ${{#COMPREPLY[@]}} -eq 0 ] && [ "${{word#-}}" = "$word" ]; then
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$word"))
  fi
  return 0
}}
complete -F _ssd ssd"""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="completion",
        description="Print a script for the shell that completes `ssd`.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("shell", choices=("bash", "zsh", "fish"))
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Print the script."""
    shell = parser().parse_args(argv).shell
    if shell == "fish":
        print(fish_script())
    else:
        # zsh understands bash's completion once it is asked to.
        print("autoload -U +X bashcompinit && bashcompinit\n" * (shell == "zsh") + bash_script())
    return 0


def bash_script() -> str:
    """A function for `complete`: commands first, then options, the values of an option, files, and keys of `train`."""
    options, values = [], []
    for name, actions in _commands():
        words = " ".join(text for action in actions for text in action.option_strings)
        options.append(f"    {name}) options={shlex.quote(words)} ;;")
        for action in actions:
            if action.choices is not None and action.option_strings:
                cases = "|".join(f"{name}\\ {text}" for text in action.option_strings)
                values.append(f"    {cases}) values={shlex.quote(' '.join(map(str, action.choices)))} ;;")
    return _BASH.format(
        commands=shlex.quote(" ".join(name for name, _ in _commands())),
        keys=shlex.quote(" ".join(_keys())),
        options="\n".join(options),
        values="\n".join(values) or "    *) ;;",
    )


def fish_script() -> str:
    """A `complete` line for every command, option and key."""
    from ssd.commands.main import COMMANDS

    lines = []
    for name, actions in _commands():
        lines.append(f"complete -c ssd -n __fish_use_subcommand -f -a {name} -d {shlex.quote(COMMANDS[name])}")
        here = f"complete -c ssd -n '__fish_seen_subcommand_from {name}'"
        for action in actions:
            lines += [f"{here} {_fish_option(action, text)}" for text in action.option_strings]
    keys = shlex.quote(" ".join(_keys()))
    return "\n".join([*lines, f"complete -c ssd -n '__fish_seen_subcommand_from train' -a {keys}"])


def _fish_option(action: argparse.Action, text: str) -> str:
    name = f"-l {text[2:]}" if text.startswith("--") else f"-s {text[1:]}"
    if action.choices is not None:
        return f"{name} -x -a {shlex.quote(' '.join(map(str, action.choices)))}"
    return name if action.nargs == 0 else f"{name} -r"


def _commands() -> Iterator[tuple[str, list[argparse.Action]]]:
    """Every command with what its parser knows."""
    from ssd.commands.main import COMMANDS

    for name in COMMANDS:
        module = importlib.import_module(f"ssd.commands.{name.replace('-', '_')}")
        yield name, module.parser()._actions


def _keys() -> Iterator[str]:
    """`group.key=` for every key of a config."""
    from ssd.experiment import config

    for group, value in config.to_dict(config.Config()).items():
        yield from (f"{group}.{key}=" for key in value) if isinstance(value, dict) else (f"{group}=",)

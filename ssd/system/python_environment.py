"""A remedy for a Python without the required packages; only the standard library is imported here."""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def is_missing_package(error: ModuleNotFoundError) -> bool:
    """Whether a third party's package is not installed; that a module inside one, or of ours, is missing is a bug."""
    name = error.name or ""
    return bool(name) and "." not in name and name != "ssd" and name not in sys.stdlib_module_names


def other_python() -> str:
    """How to start the same command with the Python that has the packages, or how to install them."""
    environment = CHECKOUT / ".venv"
    here = Path(sys.prefix).resolve() == environment.resolve()
    if here or not (environment / "bin" / "python").exists():
        return f"Run `make install` in the clone, or: {sys.executable} -m pip install {_target()}"
    script = Path(sys.argv[0])
    started = f"python {script}" if script.parent.name == "tools" else "ssd"
    folder = _short(environment / "bin")
    return f"Use {folder}/{started} ..., or activate it: . {folder}/activate"


def _target() -> str:
    return str(_short(CHECKOUT)) if (CHECKOUT / "pyproject.toml").exists() else "ssd-vgg"


def _short(path: Path) -> Path:
    return path.relative_to(CHECKOUT) if Path.cwd() == CHECKOUT else path

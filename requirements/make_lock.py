"""Write `dev.lock`: the development environment as it resolves today, each package with the SHA-256 of its file.

`make lock` runs it. `pip lock` resolves; what it says about where it found the files stays out, so that
`pip install --require-hashes -r requirements/dev.lock` works with any index that has them. The hashes are those of one
platform's wheels, which the head of the file names.
"""

import platform
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
LOCK = CHECKOUT / "requirements" / "dev.lock"


def wanted() -> list[str]:
    """What pyproject.toml asks for: the package's own requirements and the extra `dev`."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["dev"]]


def resolve(requirements: list[str]) -> list[dict[str, object]]:
    """The packages, with versions and files, that pip would install into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        listed, lock = Path(folder) / "wanted.txt", Path(folder) / "pylock.toml"
        listed.write_text("\n".join(requirements), encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "lock", "--quiet", "--only-binary", ":all:"]
        subprocess.run([*pip, "-r", listed, "-o", lock], cwd=folder, check=True)
        packages: list[dict[str, object]] = tomllib.loads(lock.read_text(encoding="utf-8"))["packages"]
    return packages


def as_requirements(packages: list[dict[str, object]]) -> str:
    """Requirements with hashes, in the order of their names."""
    lines = [
        "# Made by `make lock`; install with: pip install --require-hashes -r requirements/dev.lock",
        f"# Python {sysconfig.get_python_version()}, {platform.system()} {platform.machine()}",
    ]
    for package in sorted(packages, key=lambda package: str(package["name"])):
        hashes = sorted(wheel["hashes"]["sha256"] for wheel in package["wheels"])  # type: ignore[attr-defined]
        lines.append(f"{package['name']}=={package['version']} \\")
        lines.append(" \\\n".join(f"    --hash=sha256:{digest}" for digest in hashes))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    LOCK.write_text(as_requirements(resolve(wanted())), encoding="utf-8")

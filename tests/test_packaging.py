import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


def test_the_wheel_holds_every_module_config_and_template(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling (extra `dev`) is not installed")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(words, cwd=CHECKOUT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(["git", "ls-files", "ssd"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    wanted = set(listed.stdout.split()) or {str(p.relative_to(CHECKOUT)) for p in (CHECKOUT / "ssd").rglob("*.py")}
    wanted = {name for name in wanted if (CHECKOUT / name).exists()}
    wanted |= {f"ssd/configs/{path.name}" for path in (CHECKOUT / "configs").glob("*.yaml")}
    assert wanted <= held, sorted(wanted - held)


def test_everything_the_readme_names_is_there() -> None:
    """Links, tools and make targets."""
    import re

    text = (CHECKOUT / "README.md").read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (CHECKOUT / target).exists(), target
    for tool in re.findall(r"python (tools/\w+\.py)", text):
        assert (CHECKOUT / tool).exists(), tool
    targets = re.findall(r"^([\w-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    for name in re.findall(r"`?make ([a-z-]+)", text):
        if name != "it":
            assert name in targets, name

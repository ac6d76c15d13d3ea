import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]


def test_every_package_is_in_the_wheel() -> None:
    listed = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = [path.parent.relative_to(CHECKOUT) for path in (CHECKOUT / "ssd").rglob("__init__.py")]
    assert sorted(listed) == sorted([*(".".join(folder.parts) for folder in folders), "ssd.configs"])


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


def test_an_editable_install_is_a_plain_path() -> None:
    """Only a regular package on the search path beats a folder that is merely named `ssd`."""
    for file in ("Makefile", "README.md", "docs/index.md"):
        text = (CHECKOUT / file).read_text().replace("$(EDITABLE)", _variable("EDITABLE"))
        installs = [
            line for line in text.splitlines() if "pip install" in line and (" -e " in line or "--editable" in line)
        ]
        assert installs
        assert all("--config-settings editable_mode=compat" in line for line in installs), installs


def _variable(name: str) -> str:
    """Its value in the Makefile."""
    lines = (CHECKOUT / "Makefile").read_text().splitlines()
    return next((line.partition(":=")[2].strip() for line in lines if line.startswith(f"{name} :=")), "")

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

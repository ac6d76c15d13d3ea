import importlib
import json
import types
from importlib import metadata
from pathlib import Path

import pytest

from ssd.commands.doctor import main
from ssd.system.doctor import checks
from ssd.system.doctor.declared import Requirement, parse


@pytest.fixture
def pretend(monkeypatch):
    """Say of each named distribution that it has this version, or (None) that it is not there."""

    def install(**versions: str | None) -> None:
        real = metadata.version

        def version(name: str) -> str:
            key = name.replace("-", "_")
            if key not in versions:
                return real(name)
            if versions[key] is None:
                raise metadata.PackageNotFoundError(name)
            return str(versions[key])

        monkeypatch.setattr(metadata, "version", version)

    return install


def cv2_of(version: str, *, headless: bool = False) -> types.SimpleNamespace:
    return types.SimpleNamespace(__version__=version, version=types.SimpleNamespace(headless=headless))


def import_instead(monkeypatch, answer: object) -> None:
    def import_module(name: str) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(importlib, "import_module", import_module)


def test_two_wheels_of_one_version_are_fine(pretend):
    pretend(opencv_python="4.12.0.88", opencv_python_headless="4.12.0.88")
    assert checks.opencv_wheels().state == "ok"


def test_two_wheels_of_different_versions_are_broken_and_the_remedy_pins_both(pretend):
    pretend(opencv_python="4.9.0.80", opencv_python_headless="4.12.0.88")
    finding = checks.opencv_wheels()
    assert finding.state == "problem"
    assert finding.remedy == (
        "pip uninstall -y opencv-python opencv-python-headless "
        "&& pip install opencv-python==4.12.0.88 opencv-python-headless==4.12.0.88"
    )


def test_a_contrib_wheel_owns_the_same_folder(pretend):
    pretend(opencv_python="5.0.0.93", opencv_python_headless="5.0.0.93", opencv_contrib_python="5.0.0.93")
    assert checks.opencv_wheels().state == "note"
    pretend(opencv_python="5.0.0.93", opencv_python_headless="5.0.0.93", opencv_contrib_python="4.5.0.1")
    assert checks.opencv_wheels().state == "problem"


def test_no_wheel_at_all_is_broken(pretend):
    pretend(opencv_python=None, opencv_python_headless=None)
    finding = checks.opencv_wheels()
    assert (finding.state, finding.remedy[-42:]) == ("problem", "install opencv-python opencv-python-headless"[-42:])


@pytest.mark.parametrize(("headless", "winner"), [(True, "opencv-python-headless"), (False, "opencv-python")])
def test_the_wheel_whose_files_are_there_is_named(monkeypatch, pretend, headless, winner):
    pretend(opencv_python="4.12.0.88", opencv_python_headless="4.12.0.88")
    import_instead(monkeypatch, cv2_of("4.12.0", headless=headless))
    finding = checks.opencv_import()
    assert (finding.state, finding.text) == ("ok", f"4.12.0, the files of {winner}")


def test_files_of_another_version_than_recorded_are_broken(monkeypatch, pretend):
    pretend(opencv_python="4.12.0.88", opencv_python_headless="4.12.0.88")
    import_instead(monkeypatch, cv2_of("4.9.0"))
    finding = checks.opencv_import()
    assert finding.state == "problem"
    assert "opencv-python==4.12.0.88 opencv-python-headless==4.12.0.88" in finding.remedy


def test_a_missing_libgl_is_explained(monkeypatch, pretend):
    pretend(opencv_python="4.12.0.88", opencv_python_headless="4.12.0.88")
    import_instead(monkeypatch, ImportError("libGL.so.1: cannot open shared object file: No such file or directory"))
    finding = checks.opencv_import()
    assert finding.state == "problem"
    assert "libGL.so.1" in finding.text
    assert "apt-get install libgl1" in finding.remedy
    assert "pip install opencv-python-headless==4.12.0.88" in finding.remedy


def test_half_a_cv2_is_broken(monkeypatch):
    import_instead(monkeypatch, types.SimpleNamespace())  # what remains when one of the two wheels is uninstalled
    assert checks.opencv_import().state == "problem"


def test_an_old_requirement_is_named_with_the_command_for_it(pretend):
    pretend(torch="2.4.0", safetensors=None)
    (finding,) = checks.requirements()
    assert finding.state == "problem"
    assert "torch>=2.10 (2.4.0)" in finding.text
    assert "safetensors>=0.5 (missing)" in finding.text
    assert finding.remedy == 'pip install "safetensors>=0.5" "torch>=2.10"'


def test_a_checkout_that_was_never_installed_says_so(monkeypatch, pretend):
    def no_requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    pretend(ssd_vgg=None)
    monkeypatch.setattr(metadata, "requires", no_requires)
    (finding,) = checks.requirements()
    assert (finding.state, finding.remedy) == ("note", "pip install -e .")


@pytest.mark.parametrize(
    ("text", "version", "fits"),
    [
        ("torch>=2.10", "2.10.0+cu128", True),
        ("torch>=2.10", "2.9.1", False),
        ("torch>=2.10", "3", True),
        ("torch>=2.10.1", "2.10.1a0", True),
        ("albumentations==2.0.8", "2.0.8", True),
        ("albumentations==2.0.8", "2.0.9", False),
        ("mkdocstrings[python]<2,>=0.28; extra == 'docs'", "1.9", True),
        ("mkdocstrings[python]<2,>=0.28; extra == 'docs'", "2.0", False),
        ("types-PyYAML", "0", True),
        ("torch>=2.10", None, False),
    ],
)
def test_versions_are_compared_as_pip_compares_them(text, version, fits):
    assert parse(text).accepts(version) is fits


def test_a_requirement_of_an_extra_names_it():
    assert parse('ray[data]>=2.40 ; extra == "ray"') == Requirement("ray", ">=2.40", "ray")


def test_a_checkout_that_was_never_installed_has_its_requirements_compared(monkeypatch, pretend):
    def no_requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    pretend(ssd_vgg=None, torch=None)
    monkeypatch.setattr(metadata, "requires", no_requires)
    (finding,) = checks.requirements()
    assert (finding.state, finding.text) == ("problem", "never installed; wrong: torch>=2.10 (missing)")


@pytest.mark.parametrize(("has_environment", "remedy"), [(True, ".venv/bin/activate"), (False, "Run `make install`")])
def test_a_python_without_the_packages_is_told_and_where_they_are(
    pretend, monkeypatch, tmp_path, has_environment, remedy
):
    pretend(torch=None)
    monkeypatch.setattr("ssd.system.python_environment.CHECKOUT", tmp_path)
    if has_environment:
        (tmp_path / ".venv" / "bin").mkdir(parents=True)
        (tmp_path / ".venv" / "bin" / "python").write_text("")
    finding = checks.python()
    assert finding.state == "note"
    assert remedy in finding.remedy


def test_a_missing_extra_is_a_note_with_its_command(pretend):
    pretend(gradio=None, nncf=None, openvino="2026.1")
    notes = {finding.what: finding for finding in checks.extras()}
    assert (notes["extra demo"].state, notes["extra demo"].remedy) == ("note", 'pip install "ssd-vgg[demo]"')
    assert "without nncf" in notes["extra int8"].text
    assert "extra dev" not in notes


def test_a_folder_that_cannot_be_written_to_is_broken(monkeypatch, tmp_path):
    def refuse(*args: object, **keywords: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("SSD_HOME", str(tmp_path / "home"))
    assert next(checks.folders()).state == "ok"
    assert not (tmp_path / "home").exists()
    monkeypatch.setattr(checks.tempfile, "TemporaryFile", refuse)
    finding = next(checks.folders())
    assert finding.state == "problem"
    assert "SSD_HOME" in finding.remedy


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_the_precision_of_a_machine_is_told(monkeypatch, has_bf16, precision):
    monkeypatch.setattr("ssd.system.device.cpu_has_bf16", lambda: has_bf16)
    findings = {finding.what: finding.text for finding in checks.torch_and_devices()}
    assert findings["processor"].endswith(f"auto means {precision}")


def test_the_exit_code_is_1_when_something_is_broken(capsys, monkeypatch, tmp_path, pretend):
    monkeypatch.chdir(tmp_path)
    pretend(opencv_python="4.9.0.80", opencv_python_headless="4.12.0.88")
    import_instead(monkeypatch, cv2_of("4.9.0"))
    assert main(["--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert {row["what"] for row in report["findings"] if row["state"] == "problem"} >= {"opencv wheels"}
    assert main([]) == 1
    printed = capsys.readouterr().out
    assert "BAD   opencv wheels" in printed
    assert "broken, see BAD above" in printed.splitlines()[-1]
    assert not list(Path(tmp_path).iterdir())

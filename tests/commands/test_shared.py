import argparse
import errno
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch

from ssd.commands._shared import add_data, guarded, threshold
from ssd.errors import ConfigError, ImageDecodeError
from ssd.experiment.config import DataConfig


def raising(error: BaseException):
    @guarded
    def main() -> int:
        """A command."""
        raise error

    return main


def test_an_exit_code_passes():
    assert guarded(lambda: 7)() == 7


def test_a_users_mistake_is_one_line_and_exit_code_2(capsys):
    for error in (
        ConfigError("is 3", place="train.epochs", remedy="Use 4."),
        ImageDecodeError("is empty", place="a.jpg"),
    ):
        assert raising(error)() == 2
    assert capsys.readouterr().err == "error: train.epochs: is 3. Use 4.\nerror: a.jpg: is empty\n"


@pytest.mark.parametrize("name", ["a\n.jpg", b"a\n.jpg", Path("a\n.jpg")])
def test_what_the_system_says_of_a_file_is_one_line_and_exit_code_2(name, capsys):
    assert raising(PermissionError(errno.EACCES, "Permission denied", name))() == 2
    line = r"error: a\n.jpg: cannot be read or written (Permission denied). Check the path and its permissions."
    assert capsys.readouterr().err == line + "\n"


def test_what_the_system_says_of_no_file_is_a_bug():
    for error in (OSError(errno.EIO, "Input/output error"), OSError(errno.EBADF, "Bad file descriptor", 7)):
        with pytest.raises(OSError, match=error.strerror):
            raising(error)()


def test_ctrl_c_is_130():
    assert raising(KeyboardInterrupt())() == 130


def test_a_bug_shows_its_traceback():
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())()


def test_a_command_keeps_its_name_and_docstring():
    assert raising(ValueError()).__doc__ == "A command."


def test_another_pipe_that_breaks_is_a_bug():
    with pytest.raises(BrokenPipeError):
        raising(BrokenPipeError())()


def test_the_help_of_format_names_every_kind():
    parser = argparse.ArgumentParser()
    add_data(parser)
    kinds = set(get_args(get_type_hints(DataConfig)["format"])) - {"auto"}
    (action,) = [action for action in parser._actions if action.dest == "format"]
    assert kinds == set(action.help.partition(";")[0].split(", "))


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "GPU"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), "computer"),
        (MemoryError(), "computer"),
    ],
)
def test_full_memory_is_one_line_with_what_takes_less(error, where, capsys):
    assert raising(error)() == 2
    text = capsys.readouterr().err
    assert text.startswith(f"error: the memory of the {where} is full. Use a smaller batch: train.batch_size=4 ")
    assert text.count("\n") == 1


def test_another_error_passes():
    with pytest.raises(RuntimeError, match="a bug"):
        raising(RuntimeError("a bug"))()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5", 0.5),
        ("own", "own"),
        ("WBC=0.3,RBC=0.5", {"WBC": 0.3, "RBC": 0.5}),
        ("white cell=0.3, red cell=.5", {"white cell": 0.3, "red cell": 0.5}),
        ("a, b=0.3,c=1e-2", {"a, b": 0.3, "c": 0.01}),
    ],
)
def test_thresholds_as_they_are_typed(text, expected):
    assert threshold(text) == expected

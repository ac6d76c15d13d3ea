"""What to do where a folder is no data set: the commands in the answers can be pasted into a shell."""

import pytest

from ssd.data.formats.recognition import recognise
from ssd.errors import DatasetError
from tests.data.made import write_image, write_text


def test_the_commands_of_an_answer_quote_the_folder(tmp_path):
    image = write_image(tmp_path / "my images" / "a.jpg")
    with pytest.raises(DatasetError, match=r"to run a detector on them: ssd detect '.*my images'"):
        recognise(image.parent)
    file = write_text(tmp_path / "my images" / "a.json", "{}")
    with pytest.raises(DatasetError, match=r"Pass its folder: --data '.*my images'"):
        recognise(file)

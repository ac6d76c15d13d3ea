from collections.abc import Iterator

import pytest

from tests.reliability.nursery import Nursery


@pytest.fixture(scope="package")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Makes real processes for the tests of this folder."""
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.close()

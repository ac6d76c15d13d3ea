import pytest

from ssd.benchmark import fixtures
from ssd.benchmark.fixtures import Sizes


@pytest.fixture(scope="session")
def small():
    """Everything but the network in small."""
    with fixtures.prepared("cpu", sizes=Sizes(columns=5, batch=1, loss_batch=2, eval_images=4)) as made:
        yield made

from tests.contracts import check_detector, check_evaluation
from tests.exporters import made


def test_an_exported_graph_is_a_detector_like_any_other(small):
    check_detector(small.detector, made.images(4))
    check_evaluation(small.detector, made.dataset())

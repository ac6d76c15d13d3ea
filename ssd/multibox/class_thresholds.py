"""A score threshold for each class, applied to the detections of an exported graph.

Whether a detection survives suppression depends on better ones of its own class alone, so a higher threshold for one
class can be applied afterwards. Of an image with as many detections as the graph keeps, those that would have moved up
are lost.
"""

import torch

from ssd.structures import BatchDetections


def keep_by_class(found: BatchDetections, thresholds: tuple[float, ...]) -> BatchDetections:
    """Keep the detections with scores above the threshold of their class, in their order."""
    least = torch.tensor(thresholds, dtype=found.scores.dtype, device=found.scores.device)
    places = torch.arange(found.scores.shape[1], device=found.scores.device)
    keep = (places < found.counts[:, None]) & (found.scores > least[found.labels])
    order = (~keep).to(torch.uint8).argsort(dim=1, stable=True)
    keep = keep.gather(1, order)
    return BatchDetections(
        boxes=found.boxes.gather(1, order[..., None].expand(-1, -1, 4)) * keep[..., None],
        scores=found.scores.gather(1, order) * keep,
        labels=found.labels.gather(1, order) * keep,
        counts=keep.sum(dim=1),
    )

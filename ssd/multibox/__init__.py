"""Default boxes, matching, coding, loss, post-processing."""

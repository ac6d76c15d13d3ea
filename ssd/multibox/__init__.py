"""What makes boxes of a network's numbers: default boxes, matching, coding, loss, post-processing."""

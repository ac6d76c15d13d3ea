"""What a run and an evaluation leave behind for people to read."""

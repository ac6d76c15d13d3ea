"""What networks are made of and what they cost."""

"""Widgets of self-contained HTML pages and text tables. Knows nothing of what is shown."""

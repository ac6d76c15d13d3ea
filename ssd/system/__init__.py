"""The machine: devices, files, downloads, processes. Knows nothing of detection."""

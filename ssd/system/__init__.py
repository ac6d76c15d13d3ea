"""The machine: devices, files, downloads, processes; independent of detection."""

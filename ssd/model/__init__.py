"""The network: backbone, extra layers, heads."""

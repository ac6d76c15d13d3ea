"""The network and nothing but the network: backbone, extra layers, head."""

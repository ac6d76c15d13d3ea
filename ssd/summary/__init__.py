"""Layers, parameters and multiply-adds of networks."""

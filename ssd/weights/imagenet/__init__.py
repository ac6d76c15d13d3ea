"""Backbone weights trained on ImageNet."""

"""The web page: drop an image, see the boxes."""

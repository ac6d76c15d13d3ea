"""A web page that detects objects in an uploaded image."""

"""Building and trying the image without a container engine, as root: `python -m tests.image.check`."""

"""The reference backend: the paper's update written out in numpy, in float64, for small networks. For tests and for readers."""

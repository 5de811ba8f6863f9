"""Measurements: the steps of a run, its scaling efficiency, studies of several sizes, allreduce alone and input alone."""

"""Horovod: built from its release for current frameworks, found, and checked."""

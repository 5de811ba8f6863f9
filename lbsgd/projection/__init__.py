"""Predicts how training scales on a cluster that one does not have: step time and efficiency, from costs of communication.

Everything here is a prediction; measurements come from `lbsgd bench` and only enter through calibration.py.
"""

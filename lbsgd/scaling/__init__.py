"""How well training scales over numbers of workers, and where the rest goes: `lbsgd bench --gpus 8,64,256`.

A study starts every size as a job of its own (study.py), whose ranks measure (measure.py); figures are derived from what they
wrote (figures.py) and shown as a table, files and a plot (tables.py, plot.py).
"""

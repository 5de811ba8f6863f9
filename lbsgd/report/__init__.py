"""The report: what was recorded of a run, a study or a folder of them, as one HTML page that needs nothing else.

sources.py finds the records, run.py, study.py and folder.py say what is on a page in terms of blocks.py, charts and advice
come from their own files, and page.py renders it all with the templates.
"""

"""The frameworks behind one contract. Importing this package imports no framework."""

"""One module a command; lbsgd.cli loads a module when its command is used."""

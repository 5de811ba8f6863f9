"""What a run leaves in its folder, and the loggers that get it too."""

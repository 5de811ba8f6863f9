"""Starting ranks, one file a launcher, and building Horovod for the machine they run on."""

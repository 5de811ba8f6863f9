"""The ranks of a run: who they are, how they agree, how they are stopped and how they fail together."""

"""`lbsgd train --profile`: what a few iterations are made of, as a trace and as a summary."""

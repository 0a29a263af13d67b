"""Several processes as one run: where they meet, how they start together, and how the end of one ends all.

roll.py      what is said of processes, in a line: who is missing, who differs
meeting.py   the meeting place, a process of its own
guest.py     a connection, as the meeting place sees it
link.py      a process's connection to it
place.py     which process of how many this one is, from flags or a cluster's environment
joining.py   the start of jax.distributed, and the end of all

With jax's start-up and its collectives alone, a process that does not come or is lost shows as a long silence, or as an
abort in C++ with a stack trace. docs/clusters.md has the recipes.
"""

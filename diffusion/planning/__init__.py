"""A training step or sampler compiled for hardware that is not there, and what the optimised program says.

targets.py                 the hardware: published figures, and devices to compile for
hlo.py                     an optimised program's text, as instructions with shapes, and its buffer assignment
kernel_and_byte_counts.py  kernels, bytes and copies of a program; flop_count.py and collectives.py count those
compile_for_target.py      the experiment compiled for a target, in a process of its own
memory_and_time.py         memory, times and steps per second on a target
report.py                  an estimate as text and as JSON
report_csv.py              estimates as lines of a CSV file

Nothing is executed: times are what published peaks allow, no measurements.
"""

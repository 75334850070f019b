"""The composition root: settings, wiring, signals, command line.

Knows: every package.
Does not know: any rule of its own; it only connects.
"""

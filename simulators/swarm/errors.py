"""Errors of the swarm.

Knows: why a swarm cannot run.
Does not know: who shows the sentence.
Spec: none.
"""


class SwarmError(Exception):
    """The swarm cannot run at all; the text says what helps."""

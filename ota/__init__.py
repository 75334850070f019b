"""Over-the-air updates: signed metadata, block streams, jobs, campaigns.

Knows: nothing yet; its rooms come with a later release.
Does not know: shadows, how a device was attested.
"""

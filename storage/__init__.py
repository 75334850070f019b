"""One database, one group committer, numbered migrations.

Knows: nothing yet; the durable adapters come with a later release.
Does not know: any word of a domain.
"""

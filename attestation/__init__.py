"""Attested onboarding: RATS roles as modules, certificates only for devices that prove their state.

Knows: nothing yet; its rooms come with a later release.
Does not know: shadows, updates, sockets.
Spec: RFC 9334.
"""

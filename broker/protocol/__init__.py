"""Bytes to Control Packets and back, for both versions.

Knows: every packet, every property, topics, one Network Connection's input.
Does not know: sessions, subscribers, sockets.
Spec: v5 §2, §3; v3.1.1 §2, §3.
"""

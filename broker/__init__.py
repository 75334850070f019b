"""The MQTT 3.1.1 and 5 server.

Knows: everything between a Network Connection and an in-process client.
Does not know: shadows, attestation, updates, who is registered.
Other packages enter by `broker.api`, `broker.protocol`, `broker.access` and `broker.settings` only.
Spec: MQTT Version 5.0; MQTT Version 3.1.1.
"""

"""The uplink's edge: topics, payloads and one connection. The only importer of paho."""

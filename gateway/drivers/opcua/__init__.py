"""The OPC UA driver: a client by subscription, on asyncua's channel, session and codec, with a publish loop of our own.

`node_ids` and `values` are pure; `channel` is the link and `session` what is known of the server on it;
`publications` decodes what a server publishes, `monitored_items` says what it shall publish, `subscription` keeps
that flowing; `driver` offers the three verbs.
"""

"""The OPC UA driver: a client by subscription, on asyncua's channel, session and codec, with a publish loop of our own.

Pure: `node_ids`, `values`, `sequence` (which notification is missing), `decoder` and `publications` (bytes to changes).
The link: `channel`, `resumption` (a session goes on over a new channel), `session`, `audit` (is it still the server we
were written for), `server_state`. What it says: `monitored_items` and `subscription`, or `polling`; `snapshots` reads
together what belongs together. Structures: `structure_definitions` (asked of the server), `structure_codec`, `fields`,
`field_decoder`, `field_writes`, and `structures` over them. `driver` offers the verbs, `methods` one of them.
"""

from gateway.drivers.opcua.secure_channel.limits import believe_no_empty_elements
from gateway.drivers.opcua.subscribing.data_values import read_times_in_order

believe_no_empty_elements()  # here, so that nothing of asyncua is used by this package without it
read_times_in_order()

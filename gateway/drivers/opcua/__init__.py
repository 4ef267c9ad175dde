"""The OPC UA driver: a client by subscription, on asyncua's channel, session and codec, with a publish loop of our own.

`secure_channel/` is the link: whom it trusts, who we are, the channel, and a session that goes on over a new one.
`structured/` knows tags that are fields of structures. `subscribing/` is how values come: `subscription` with what is
monitored and notified, or `polling`; `decoder` and `publications` make changes of bytes; `history` fills what an outage
left out. Beside them: `session` and `server_state`, `audit` (is it still the server that we were written for),
`node_ids` and `values` between its world and ours. `driver` offers the verbs; `browse` and `methods` are two of them.
"""

from gateway.drivers.opcua.secure_channel.limits import believe_no_empty_elements
from gateway.drivers.opcua.subscribing.data_values import read_times_in_order

believe_no_empty_elements()  # here, so that nothing of asyncua is used by this package without it
read_times_in_order()

"""An OPC UA server that sends a change of every subscribed tag in each publishing interval, faster than any PLC.

    python -m bench.load_source 10000        # s=tag0 … s=tag9999 in urn:bench, doubles

asyncua does all that is not hot: session, browsing, monitored items. What it would spend on each value is saved: the
body of a notification is packed by one precompiled struct, 0.2 µs a value. The value of tag n in the k-th notification
is k + n / 1e6, so whoever receives it can tell that nothing is missing: per tag the whole part rises by exactly one.

Lines on standard input say what to do, JSON lines on standard output what was done:

    go 50        send 50 notifications to the subscription there is, one per publishing interval; answers with
                 {"sent": changes, "skipped": intervals that found no PublishRequest waiting, "seconds": …}
"""

import asyncio
import struct
import sys
import time
from typing import Any

from asyncua import Server, ua

from bench.lines import say

NAMESPACE = "urn:bench"
_ITEM = "IBBdqq"
"""Client handle, encoding mask, variant type, value, source time, server time (OPC 10000-6 §5.2.2.17)."""
_VALUE_AND_TIMES, _DOUBLE = 0x01 | 0x04 | 0x08, 11
_UNIX = 116_444_736_000_000_000
"""1970 in 100 ns since 1601."""
_FOLDER = 100
"""Tags per folder: asyncua looks through all children of a parent before it adds one more."""


class Notifications:
    """The notifications of one subscription, each packed in one go."""

    def __init__(self, handles: list[int]) -> None:
        count = len(handles)
        self.count = count
        self._packed = struct.Struct("<i" + _ITEM * count + "i")
        self._fields: list[Any] = [0] * (6 * count)
        self._fields[0::6] = handles
        self._fields[1::6] = [_VALUE_AND_TIMES] * count
        self._fields[2::6] = [_DOUBLE] * count
        self._fractions = [place / 1e6 for place in range(count)]

    def body(self, number: int) -> ua.ExtensionObject:
        """The `number`-th notification, stamped now."""
        fields, now = self._fields, [_UNIX + time.time_ns() // 100] * self.count
        fields[3::6] = [number + fraction for fraction in self._fractions]
        fields[4::6] = fields[5::6] = now
        data = self._packed.pack(self.count, *fields, -1)
        return ua.ExtensionObject(ua.NodeId(ua.ObjectIds.DataChangeNotification_Encoding_DefaultBinary), data)


class Source:
    """The server and the one subscription that is measured."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._number = 0

    async def send(self, count: int) -> dict[str, float]:
        """So many notifications, in the subscription's own interval; an interval that cannot be served is skipped."""
        (subscription,) = self._server.iserver.subscription_service.subscriptions.values()
        items = sorted(subscription.monitored_item_srv._monitored_items.values(), key=lambda item: item.client_handle)
        notifications = Notifications([item.client_handle for item in items])
        subscription._task.cancel()
        subscription.publish_results = _not_by_itself
        period = subscription.data.RevisedPublishingInterval / 1000
        sent = skipped = 0
        began = due = time.monotonic()
        while sent < count:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += period
            request = subscription.pub_request_callback(subscription.data.SubscriptionId)
            if request is None:
                skipped += 1
                continue
            self._number += 1
            body = notifications.body(self._number)
            subscription._pop_triggered_datachanges = lambda result, body=body: (
                result.NotificationMessage.NotificationData.append(body)
            )
            await subscription.pub_result_callback(subscription._pop_publish_result(), request)
            sent += 1
        seconds = time.monotonic() - began
        del subscription._pop_triggered_datachanges, subscription.publish_results
        subscription._triggered_datachanges.clear()
        await subscription.start()
        return {"sent": sent * notifications.count, "skipped": skipped, "seconds": seconds}


async def _not_by_itself(request: Any = None) -> bool:
    """While `send` decides what is published, a PublishRequest that comes in is kept for it."""
    return False


async def serve(tags: int) -> None:
    """Serve until standard input ends."""
    server = Server()
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    namespace = await server.register_namespace(NAMESPACE)
    for place in range(tags):
        if place % _FOLDER == 0:
            folder = await server.nodes.objects.add_folder(namespace, f"block{place // _FOLDER}")
        await folder.add_variable(ua.NodeId(f"tag{place}", namespace), f"tag{place}", 0.0, ua.VariantType.Double)
    async with server:
        source = Source(server)
        say({"port": server.bserver._server.sockets[0].getsockname()[1]})
        while line := await asyncio.to_thread(sys.stdin.readline):
            say(await source.send(int(line.split()[1])))


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))

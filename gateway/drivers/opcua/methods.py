"""Method calls: typed arguments out, typed results back, and a refusal told as one (OPC 10000-4 §5.12.2).

Each call is a request of its own, for a server may carry out the calls of one request in any order, and `Start` must
not run behind a `Store` that was refused. Nothing is repeated: who lost the link looks at what the device holds.
"""

from collections.abc import Sequence

from asyncua import ua

from gateway.domain.values import Argument, CallResult, MethodCall, StatusCode, is_bad
from gateway.drivers.opcua.channel import ServiceFault
from gateway.drivers.opcua.node_ids import make_node_id, parse_node
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.values import encode


async def call_methods(session: Session, calls: Sequence[MethodCall], namespace: str | None) -> list[CallResult]:
    """One result per call; `namespace` is that of nodes that name none. Raises `LinkLost` as the session does.

    A node of a namespace that the server has not got, or an argument that its type cannot hold, is refused without a
    packet.
    """
    results: list[CallResult] = []
    for call in calls:
        if any(is_bad(result.status_code) for result in results):
            results.append(CallResult(StatusCode.BAD_REQUEST_CANCELLED_BY_CLIENT))
        else:
            results.append(await _call(session, call, namespace))
    return results


async def _call(session: Session, call: MethodCall, namespace: str | None) -> CallResult:
    nodes = [_find(session, text, namespace) for text in (call.object, call.method)]
    arguments = [_encode(argument) for argument in call.arguments]
    if None in nodes:
        return CallResult(StatusCode.BAD_NODE_ID_UNKNOWN)
    refused = tuple(argument if isinstance(argument, int) else StatusCode.GOOD for argument in arguments)
    if any(refused):
        return CallResult(StatusCode.BAD_INVALID_ARGUMENT, argument_codes=refused)
    request = ua.CallRequest()
    request.Parameters.MethodsToCall = [
        ua.CallMethodRequest(ObjectId=nodes[0], MethodId=nodes[1], InputArguments=arguments)
    ]
    try:
        response = await session.channel.call(request, ua.CallResponse)
    except ServiceFault as fault:
        return CallResult(fault.code)
    (result,) = session.all_of([call], response)
    return _decode(session, result)


def _decode(session: Session, result: ua.CallMethodResult) -> CallResult:
    decoder = session.value_decoder()
    return CallResult(
        result.StatusCode.value,
        tuple(decoder.decode_variant(output)[0] for output in result.OutputArguments or ()),
        tuple(code.value for code in result.InputArgumentResults or ()),
    )


def _find(session: Session, text: str, namespace: str | None) -> ua.NodeId | None:
    """The node in this session, None where its namespace does not exist here."""
    name = parse_node(text)
    uri = name.namespace if name.namespace is not None else namespace
    if uri not in session.namespaces:
        return None
    return make_node_id(name.identifier, session.namespaces.index(uri))


def _encode(argument: Argument) -> ua.Variant | int:
    encoded = encode(argument.type, argument.value)
    if not argument.localized or isinstance(encoded, int):
        return encoded
    return ua.Variant(ua.LocalizedText(encoded.Value), ua.VariantType.LocalizedText)

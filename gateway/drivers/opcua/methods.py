"""Method calls: typed arguments out, typed results back, and a refusal told as one (OPC 10000-4 §5.12.2).

Each call is a request of its own, for a server may carry out the calls of one request in any order, and `Start` must
not run behind a `Store` that was refused. Nothing is repeated: who lost the link looks at what the device holds.
"""

from collections.abc import Sequence

import structlog
from asyncua import ua

from gateway.domain.values import Argument, CallResult, MethodCall, StatusCode, StructureArgument, is_bad
from gateway.drivers.opcua.components import find_components
from gateway.drivers.opcua.node_ids import make_node_id, parse_component, parse_node
from gateway.drivers.opcua.secure_channel.channel import ServiceFault
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.structured.structure_encoder import CannotEncode
from gateway.drivers.opcua.structured.structures import Structures
from gateway.drivers.opcua.values import encode

_log = structlog.get_logger(__name__)


async def call_methods(
    session: Session, structures: Structures, calls: Sequence[MethodCall], namespace: str | None
) -> list[CallResult]:
    """One result per call; `namespace` is that of nodes that name none. Raises `LinkLost` as the session does.

    A node of a namespace that the server has not got, or an argument that its type cannot hold, is refused without a
    packet.
    """
    results: list[CallResult] = []
    for call in calls:
        if any(is_bad(result.status_code) for result in results):
            results.append(CallResult(StatusCode.BAD_REQUEST_CANCELLED_BY_CLIENT))
        else:
            results.append(await _call(session, structures, call, namespace))
    return results


async def _call(session: Session, structures: Structures, call: MethodCall, namespace: str | None) -> CallResult:
    owner, method = _find(session, call.object, namespace), _find(session, call.method, namespace)
    if owner is None or method is None:
        return CallResult(StatusCode.BAD_NODE_ID_UNKNOWN)
    if call.component is not None:
        (own,) = await find_components(session, [(owner, parse_component(call.component))])
        method = own or method
    arguments = [_encode(argument) for argument in call.arguments]
    if call.structure is not None:
        arguments.insert(0, await _encode_structure(session, structures, call.structure, namespace))
    refused = tuple(argument if isinstance(argument, int) else StatusCode.GOOD for argument in arguments)
    if any(refused):
        return CallResult(StatusCode.BAD_INVALID_ARGUMENT, argument_codes=refused)
    request = ua.CallRequest()
    request.Parameters.MethodsToCall = [ua.CallMethodRequest(ObjectId=owner, MethodId=method, InputArguments=arguments)]
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


async def _encode_structure(
    session: Session, structures: Structures, argument: StructureArgument, namespace: str | None
) -> ua.Variant | int:
    """The structure as this server has it, or the status code that refuses it: then nothing is sent."""
    data_type = _find(session, argument.type, namespace)
    if data_type is None:
        return StatusCode.BAD_NODE_ID_UNKNOWN
    try:
        return await structures.encode(session, data_type, argument.fields)
    except CannotEncode as problem:
        _log.warning("structure cannot be sent", type=argument.type, reason=str(problem))
        return StatusCode.BAD_TYPE_MISMATCH


def _encode(argument: Argument) -> ua.Variant | int:
    encoded = encode(argument.type, argument.value)
    if not argument.localized or isinstance(encoded, int):
        return encoded
    texts = encoded.Value
    localized = [ua.LocalizedText(text) for text in texts] if encoded.is_array else ua.LocalizedText(texts)
    return ua.Variant(localized, ua.VariantType.LocalizedText, is_array=encoded.is_array)

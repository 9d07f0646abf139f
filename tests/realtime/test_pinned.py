"""Every function of a library that realtime/ overrides or relies on has the source that we read.

If a test here fails, the library has changed. Compare the change with the file of ours that is named, run
the protocol's tests, and put the new fingerprint into the table.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect

import pytest

ENGINE = "engineio.async_server.AsyncServer"
ENGINE_BASE = "engineio.base_server.BaseServer"
SOCKET = "engineio.async_socket.AsyncSocket"
SERVER = "socketio.async_server.AsyncServer"
SERVER_BASE = "socketio.base_server.BaseServer"
MANAGER = "socketio.async_manager.AsyncManager"
MANAGER_BASE = "socketio.base_manager.BaseManager"
PACKET = "socketio.packet.Packet"
READER = "aiohttp._websocket.reader_py"

PINNED: list[tuple[str, str, str]] = [
    # the library's function, its fingerprint, our file
    (f"{ENGINE}.__init__", "a06b17502fbd", "engine/engine.py, EngineServer.__init__"),
    (f"{ENGINE}.attach", "7874d4dc1c31", "engine/engine.py, attach"),
    (
        f"{ENGINE}.handle_request",
        "1a8c878e3516",
        "engine/engine.py, handle_request, and engine/bad_requests.py",
    ),
    (
        f"{ENGINE}._make_response",
        "5f883ef57e34",
        "engine/engine.py, handle_request, and engine/bad_requests.py",
    ),
    (f"{ENGINE}._handle_connect", "5bd7edc1d1ae", "engine/engine.py, _handle_connect"),
    (
        f"{ENGINE}._trigger_event",
        "4a09b6e47eb6",
        "engine/receive_queue.py, and engine/session.py, close",
    ),
    (f"{ENGINE}.send", "ff1fdb18f1c3", "engine/session.py, send and close"),
    (f"{ENGINE}.send_packet", "c54317440865", "engine/session.py, send and close"),
    (f"{ENGINE}.disconnect", "8bb6448caae4", "engine/session.py, send and close"),
    (f"{ENGINE}.get_session", "db9559853d60", "engine/session.py, send and close"),
    (f"{ENGINE_BASE}.__init__", "a06b17502fbd", "engine/engine.py, _handle_connect"),
    (f"{ENGINE_BASE}._get_socket", "ae2f99e66d63", "engine/engine.py, _handle_connect"),
    (f"{ENGINE_BASE}._upgrades", "040ebcdf64fb", "engine/engine.py, _handle_connect"),
    (f"{ENGINE_BASE}._unauthorized", "ca5fd3aa77a1", "engine/engine.py, _handle_connect"),
    (f"{ENGINE_BASE}._generate_sid_cookie", "30faebd18e62", "engine/engine.py, _handle_connect"),
    (f"{ENGINE_BASE}._ok", "b8f717402eac", "engine/engine.py, _ok and _bad_request"),
    (f"{ENGINE_BASE}._bad_request", "af66afac6f6c", "engine/engine.py, _ok and _bad_request"),
    (f"{ENGINE_BASE}._cors_allowed_origins", "d0cad0c66d53", "engine/engine.py, _post"),
    (f"{ENGINE_BASE}._cors_headers", "da3a25b43052", "engine/engine.py, _post"),
    (f"{ENGINE}.start_background_task", "c873562535a6", "engine/engine.py, start_background_task"),
    (f"{SOCKET}.poll", "826f58a9f360", "engine/session.py"),
    (f"{SOCKET}.receive", "a91ae36ec2fb", "engine/session.py"),
    (f"{SOCKET}.send", "0437276ccba7", "engine/session.py"),
    (f"{SOCKET}.handle_get_request", "05eaae9f0a60", "engine/session.py"),
    (f"{SOCKET}.handle_post_request", "82dca119a261", "engine/session.py"),
    (f"{SOCKET}.close", "faa2e9390254", "engine/session.py"),
    (f"{SOCKET}.schedule_ping", "fe316639159c", "engine/session.py"),
    (f"{SOCKET}._upgrade_websocket", "820b83efe96a", "engine/session.py"),
    (f"{SOCKET}._websocket_handler", "27f120df4d71", "engine/session.py"),
    ("engineio.base_socket.BaseSocket", "d787ee3666d0", "engine/session.py, Session.__init__"),
    ("engineio.packet.Packet", "a0d70ee4777b", "engine/session.py, and engine/packet.py, polled"),
    ("engineio.payload.Payload", "6b839223a0a7", "engine/polling.py, read"),
    (
        "engineio.async_drivers.aiohttp.translate_request",
        "20aa78274006",
        "engine/session.py: environ has aiohttp.request",
    ),
    (
        "engineio.async_drivers.aiohttp.make_response",
        "58b0a5e7050f",
        "engine/engine.py, handle_request",
    ),
    (f"{SERVER_BASE}.__init__", "6b998e091b34", "server/server.py, RealtimeServer.__init__"),
    (
        f"{SERVER}._handle_eio_connect",
        "76704886d944",
        "server/server.py, the methods of the same name",
    ),
    (
        f"{SERVER}._handle_eio_message",
        "bef50fc0e163",
        "server/server.py, the methods of the same name",
    ),
    (
        f"{SERVER}._handle_eio_disconnect",
        "9344593148b6",
        "server/server.py, the methods of the same name",
    ),
    (f"{SERVER}._handle_connect", "c97c480cf777", "server/server.py, the methods of the same name"),
    (
        f"{SERVER}._handle_disconnect",
        "c0b32ada5b37",
        "server/server.py, the methods of the same name",
    ),
    (f"{SERVER}.disconnect", "7d2f76686c12", "server/server.py, the methods of the same name"),
    (f"{SERVER}._handle_event", "65178105ef8b", "server/server.py, _handle_eio_message"),
    (f"{SERVER}._handle_event_internal", "472e8b723a12", "server/server.py, _handle_eio_message"),
    (f"{SERVER}._handle_ack", "b7521c6c3097", "server/server.py, _handle_eio_message"),
    (f"{SERVER}._trigger_event", "01ba90cfa09b", "server/server.py, _handle_eio_message"),
    (f"{SERVER}._send_packet", "a00022b42c1c", "server/server.py, _handle_eio_message"),
    (f"{SERVER}._send_eio_packet", "64cf72a2ab7d", "server/server.py, _handle_eio_message"),
    (f"{SERVER}._engineio_server_class", "199c42bf1492", "server/server.py, _handle_eio_message"),
    (f"{MANAGER}.emit", "01ccd5b82b4f", "server/clients.py"),
    (f"{MANAGER}.connect", "f505d3077052", "server/clients.py"),
    (f"{MANAGER}.pre_connect", "84f2cdf2a4dd", "server/clients.py"),
    (f"{MANAGER}.disconnect", "88bed2cbade0", "server/clients.py"),
    (f"{MANAGER}.trigger_callback", "9cf95a1d1a3a", "server/clients.py"),
    (f"{MANAGER_BASE}.__init__", "bfee992d912f", "server/clients.py, and server/server.py"),
    (
        f"{MANAGER_BASE}.pre_connect",
        "bfdba4c0c8f1",
        "server/clients.py, server/server.py, and redis_manager/room_membership.py",
    ),
    (f"{MANAGER_BASE}.connect", "a0214ac7cb24", "server/clients.py, and server/server.py"),
    (f"{MANAGER_BASE}.is_connected", "d37721466718", "server/clients.py, and server/server.py"),
    (f"{MANAGER_BASE}.is_pre_connected", "40a897c4ab2c", "server/clients.py, and server/server.py"),
    (f"{MANAGER_BASE}.get_participants", "7d78ad681c95", "server/clients.py, and server/server.py"),
    (f"{MANAGER_BASE}.sid_from_eio_sid", "15467098a36b", "server/clients.py, and server/server.py"),
    (f"{MANAGER_BASE}.eio_sid_from_sid", "b0c0aeb5430d", "server/clients.py, and server/server.py"),
    (f"{MANAGER_BASE}.pre_disconnect", "18a8d01ed87a", "server/clients.py, and server/server.py"),
    (f"{MANAGER_BASE}.basic_enter_room", "3f509586d2d7", "server/clients.py"),
    (f"{MANAGER_BASE}.basic_leave_room", "e27f3eea06d1", "server/clients.py"),
    (f"{MANAGER_BASE}.basic_disconnect", "2933b50bc4b2", "server/clients.py"),
    (f"{MANAGER_BASE}.basic_close_room", "1d81a80fe1ca", "server/clients.py"),
    (f"{MANAGER_BASE}.get_rooms", "56a1017f85af", "server/clients.py"),
    (f"{MANAGER_BASE}._generate_ack_id", "ca3840d6559e", "server/clients.py"),
    (f"{SERVER}.emit", "84391bfd6241", "redis_manager/manager.py"),
    (f"{SERVER}.call", "4b7ae754cf3d", "redis_manager/manager.py"),
    (f"{SERVER}.enter_room", "69bba99d7c27", "redis_manager/room_membership.py"),
    (f"{SERVER}.leave_room", "cfa29f46c6f7", "redis_manager/room_membership.py"),
    (f"{SERVER}.close_room", "b1e6be7a218e", "redis_manager/room_membership.py"),
    (f"{SERVER}.attach", "4ee66bedf2ae", "server/server.py, attach"),
    (f"{MANAGER}.enter_room", "fc2bbb63043d", "redis_manager/room_membership.py"),
    (f"{MANAGER}.leave_room", "2af1184b4bec", "redis_manager/room_membership.py"),
    (f"{MANAGER}.close_room", "3915d433d998", "redis_manager/room_membership.py"),
    (f"{MANAGER}.can_disconnect", "9659ad064412", "redis_manager/room_membership.py"),
    (f"{MANAGER_BASE}.initialize", "96479fafd17c", "redis_manager/manager.py"),
    (f"{MANAGER_BASE}.is_sid_room", "e9a9393a969c", "redis_manager/room_membership.py"),
    (
        f"{PACKET}.__init__",
        "5fe2fa797e08",
        "server/packet_validation.py, and server/clients.py, _packets",
    ),
    (
        f"{PACKET}.encode",
        "513c45be7518",
        "server/packet_validation.py, and server/clients.py, _packets",
    ),
    (
        f"{PACKET}.decode",
        "61ad7904b539",
        "server/packet_validation.py, and server/clients.py, _packets",
    ),
    (f"{PACKET}.data_is_binary", "464dded7ae95", "server/packet_validation.py, data_is_binary"),
    (
        f"{PACKET}.add_attachment",
        "01e024038f3d",
        "server/packet_validation.py, and server/clients.py, _packets",
    ),
    (
        f"{PACKET}.reconstruct_binary",
        "b5bf13b2bea3",
        "server/packet_validation.py, and server/clients.py, _packets",
    ),
    (
        f"{PACKET}._reconstruct_binary_internal",
        "dd2f80dad101",
        "server/packet_validation.py, and server/clients.py, _packets",
    ),
    (
        "aiohttp.web_ws.WebSocketResponse.__init__",
        "5bf01103159b",
        "engine/websocket.py, WebSocketResponse",
    ),
    (
        "aiohttp.web_ws.WebSocketResponse.prepare",
        "bd6bf6c6d410",
        "engine/websocket.py, WebSocketResponse",
    ),
    (
        "aiohttp.web_ws.WebSocketResponse._pre_start",
        "da55c0d7d844",
        "engine/websocket.py, WebSocketResponse",
    ),
    (
        "aiohttp.web_ws.WebSocketResponse._post_start",
        "5537cb3f2eca",
        "engine/websocket.py, WebSocketResponse._post_start",
    ),
    (
        "aiohttp.web_ws.WebSocketResponse.write_eof",
        "1277d2fa9335",
        "engine/websocket.py, WebSocketResponse.write_eof",
    ),
    ("aiohttp.web_protocol.RequestHandler.start", "2e565fd40c8e", "engine/websocket.py, take_over"),
    (
        "aiohttp.web_protocol.RequestHandler.finish_response",
        "b7eb53db8f4b",
        "engine/websocket.py, take_over",
    ),
    (
        "aiohttp.web_protocol.RequestHandler.force_close",
        "38d0e1e798e4",
        "engine/websocket.py, take_over",
    ),
    (
        "aiohttp.web_protocol.RequestHandler.data_received",
        "1ee57ebe052e",
        "engine/websocket.py, take_over",
    ),
    (
        "aiohttp.web_protocol.RequestHandler.connection_lost",
        "df2fe6e95fd0",
        "engine/polling.py, wait, and websocket.py, take_over",
    ),
    ("aiohttp.web_server.Server.connection_lost", "fff3ade6ffe8", "engine/websocket.py, take_over"),
    (
        "aiohttp.base_protocol.BaseProtocol.connection_lost",
        "8b4e1725c564",
        "engine/websocket.py, take_over",
    ),
    ("aiohttp.web_request.BaseRequest._cancel", "17eda35f901c", "engine/polling.py, wait"),
    (f"{READER}.WebSocketDataQueue", "526af2531df7", "engine/websocket.py, _ParserOutput"),
    (
        f"{READER}.WebSocketReader",
        "a2db8242e7f2",
        "engine/websocket.py, _ParserOutput and WebSocketResponse",
    ),
]


def source(path: str) -> str:
    parts = path.split(".")
    for at in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:at]))
        except ModuleNotFoundError:
            continue
        for name in parts[at:]:
            found = getattr(found, name)
        return inspect.getsource(found)
    raise AssertionError(f"there is no {path} any more")


def fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@pytest.mark.parametrize(("path", "pinned", "ours"), PINNED, ids=[row[0] for row in PINNED])
def test_a_pinned_function_has_not_changed(path: str, pinned: str, ours: str) -> None:
    now = fingerprint(source(path))
    assert now == pinned, f"{path} has changed: look at {ours}; its fingerprint is {now} now"

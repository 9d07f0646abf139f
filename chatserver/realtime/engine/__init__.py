"""Engine.IO: sessions, WebSocket and polling, heartbeats, back-pressure."""

"""The door for browsers and phones: Socket.IO."""

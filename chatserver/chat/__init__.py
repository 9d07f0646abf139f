"""The chat's core. It knows neither doors nor sockets; the object that announces changes is passed in."""

"""The core: what a chat is. It knows no door and no socket; what it announces with is handed in."""

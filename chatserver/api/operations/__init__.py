"""Every operation that a caller can request, declared once for all doors."""

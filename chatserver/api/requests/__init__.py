"""What callers may ask: every payload of every door, parsed once into a frozen type.

A type's schema refuses unknown keys and wrong types by name; below the doors nothing is checked again.
"""

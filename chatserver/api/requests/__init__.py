"""The payloads of all requests and client events. Each is parsed once into a frozen type.

A schema refuses unknown keys and wrong types, and names them. Below the doors nothing is checked again.
"""

"""A page for trying out a development server: two people, and every packet of both. Built from
clients/playground."""

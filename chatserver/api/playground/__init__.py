"""A page to try a development server on: two people, and every packet of both. Built from clients/playground."""

"""What a node does to learn what it missed: the log, memberships, and notices that have no offset."""

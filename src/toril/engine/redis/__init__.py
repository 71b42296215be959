"""How Redis is reached: connections, settings, protocol and replies. No command of a queue is made here."""

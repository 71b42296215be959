"""The public side of a queue: adding jobs, reading and changing jobs, steering and limiting queues.

`connection` holds what one queue needs to reach Redis, `operations` and `schedule_operations` turn checked input into
operations without I/O, and the other modules are the classes that users see. `sync` holds the same classes for code
without an event loop. Nothing here knows tasks or `Queue`.
"""

"""The only code that talks to Redis: keys, Lua scripts, queue, inspector, events.

Knows no workers, HTTP or Kubernetes.
"""

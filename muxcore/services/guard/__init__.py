"""Who may come to a service, and how many at once.

- ``guard``: the service around another one;
- ``rules``: what it is told to allow;
- ``door``: what it decides by them, and counts;
- ``sources``: what it knows of those who come;
"""

from muxcore.services.guard.guard import Guard

__all__ = ["Guard"]

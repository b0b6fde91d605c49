"""The same work on every engine, side by side, and what may be concluded from it."""

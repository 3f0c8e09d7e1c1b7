"""Unit tests of the blocking client: no socket, no thread, no real time."""

"""One program per client library. Each is a process of its own, which measures itself and prints one line of JSON."""

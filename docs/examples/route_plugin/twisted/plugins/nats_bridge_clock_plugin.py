"""Tells ``nats-bridge`` of the route type ``clock``. Every command that looks for plugins imports this file."""

from clock_route import ClockFactory

# Plugins are the objects of a module that provide IPlugin; their names are of no matter.
clock = ClockFactory()

"""How often one client may call: the generic cell rate algorithm, which keeps one number for each."""

import ipaddress

BURST_S = 2.0
"""Seconds whose calls may come at once."""
FEW = 10_000
"""Clients up to which those that are idle are not looked for."""


class RateLimit:
    """At most so many calls a second of each client, beyond the first of a burst."""

    def __init__(self, per_s: float) -> None:
        """A bound.

        Args:
            per_s: calls of a client per second; 0 for no bound.
        """
        self.per_s = per_s
        self._due_s: dict[str, float] = {}  # client -> when it would be through at the rate allowed
        self._many = FEW

    def excess_s(self, client: str, now: float) -> float:
        """Count a call of a client; returns the seconds by which it is too early, 0 where it may go through."""
        if not self.per_s:
            return 0.0
        due = max(self._due_s.get(client, now), now)
        if due - now > BURST_S:
            return due - now - BURST_S
        self._due_s[client] = due + 1 / self.per_s
        if len(self._due_s) > self._many:
            self._due_s = {name: end for name, end in self._due_s.items() if end > now}
            self._many = max(FEW, 2 * len(self._due_s))
        return 0.0


def network_of(host: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 network that an IPv6 host has for itself."""
    if ":" not in host:
        return host
    return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))

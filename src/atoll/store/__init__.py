"""Central's durable data: the protocol `Store` and what implements it."""

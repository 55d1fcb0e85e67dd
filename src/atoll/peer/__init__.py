"""The protocol between nodes: what crosses the wire (`codec`), and who calls (`client`)."""

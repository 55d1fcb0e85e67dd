"""What tests share: clocks, servers and generators of values."""

"""`trpts bench`: one clock, and a module for each bench; `benches` is their registry."""

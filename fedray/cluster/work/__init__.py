"""Work over Ray: workers of all nodes, the items of a round, and the vectors that cross."""

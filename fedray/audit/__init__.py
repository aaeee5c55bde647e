"""Claims of privacy, put to the test: canaries in real runs, and what their releases tell of them."""

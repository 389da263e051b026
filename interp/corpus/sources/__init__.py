"""Where the packaged corpora's documents come from: one module a kind of text."""

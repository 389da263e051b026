"""One file an architecture; `interp.sae.architectures` finds them by itself."""

import interp as interp  # before torch, whose threads otherwise wait by spinning

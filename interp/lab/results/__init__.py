"""Published results, one file each; see `interp.lab.result`."""

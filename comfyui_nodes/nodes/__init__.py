"""The nodes, one a file. `extension.NODES` lists them in the order of the menu."""

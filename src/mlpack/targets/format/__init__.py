"""What targets share to write a package and to read one back: contents, archives, layers, bytecode."""

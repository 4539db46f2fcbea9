"""What the tests of images share: a container registry in memory, other tools' layouts, tars written header by header."""

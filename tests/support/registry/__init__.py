"""What the tests of the registry share: builds, places to put rows in, damages, and every order of several actors' steps."""
